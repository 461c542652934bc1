// The child's hands: every step on the GPUs of this process. Nothing here waits without a deadline, but CUDA's own calls may; for
// those the parent watches.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <thread>

#include "base/cuda.hpp"
#include "base/require.hpp"
#include "kernels/probe.hpp"
#include "topology/verify_serve.hpp"

namespace collectives {
namespace {

using namespace std::chrono_literals;
using SteadyClock = std::chrono::steady_clock;
using Fault = Injection::Kind;

constexpr std::size_t buffer_bytes = std::size_t{64} << 20, rate_bytes = buffer_bytes / 2;
constexpr auto round_deadline = 150ms, host_deadline = 1000ms;
constexpr std::uint32_t margin_seed = 0xabcdef;
constexpr int passes = 8;
constexpr std::uint32_t ping_pongs = 1050;

std::uint64_t nanoseconds(SteadyClock::duration time) { return static_cast<std::uint64_t>(std::chrono::nanoseconds(time).count()); }

struct DeviceFree {
  void operator()(void* memory) const { (void)cudaFree(memory); }
};
template <typename T>
std::unique_ptr<T, DeviceFree> allocate_device(std::size_t bytes) {
  void* memory = nullptr;
  cuda_check(cudaMalloc(&memory, bytes));
  return std::unique_ptr<T, DeviceFree>(static_cast<T*>(memory));
}

struct TimedEvent {
  TimedEvent() { cuda_check(cudaEventCreate(&event)); }
  ~TimedEvent() { (void)cudaEventDestroy(event); }
  TimedEvent(const TimedEvent&) = delete;
  TimedEvent& operator=(const TimedEvent&) = delete;
  cudaEvent_t event = nullptr;
};

/// What the device writes for the host.
struct Slate {
  kernels::ProbeRecord record;
  std::uint64_t elapsed_ns;
};

/// A GPU of this process: the buffer that others touch, one of its own for what it sends, a line of flags.
struct Gpu {
  explicit Gpu(int number) : device(number), scope(number) {
    buffer = allocate_device<Pack>(buffer_bytes);
    staging = allocate_device<Pack>(buffer_bytes);
    flags = allocate_device<Mark>(4096);
    cuda_check(cudaMemset(flags.get(), 0, 4096));
    cuda_check(cudaMemset(staging.get(), 0x5a, buffer_bytes));
    sender = make_stream();
    watcher = make_stream();
    slate = make_pinned<Slate>();
    cuda_check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device));
    kernels::preload_probe();
    cuda_check(cudaDeviceSynchronize());
  }

  int device;
  DeviceScope scope;  ///< while the members below are made
  std::unique_ptr<Pack, DeviceFree> buffer, staging;
  std::unique_ptr<Mark, DeviceFree> flags;  ///< [0]: after data; [32]: ping-pong; [64]: what copy engines send as a flag
  CudaStream sender, watcher;
  TimedEvent begin, end;
  Pinned<Slate> slate;
  int multiprocessors = 0;
};

/// A stream that is still busy then is an error that ends this process.
void drain(const Gpu& gpu, const CudaStream& stream) {
  const DeviceScope scope(gpu.device);
  const auto deadline = SteadyClock::now() + host_deadline;
  for (;;) {
    const cudaError_t state = cudaStreamQuery(stream.get());
    if (state == cudaSuccess) return;
    if (state != cudaErrorNotReady) cuda_check(state);
    require(SteadyClock::now() < deadline, [&] { return fmt::format("device {} is still busy after {} ms", gpu.device, host_deadline.count()); }, ErrorCode::timeout);
  }
}

/// One pair in a check: who writes, who looks, and how the host sees the round of the one that looks.
struct Check {
  DevicePair pair;
  Gpu* owner = nullptr;   ///< of the memory
  Gpu* writer = nullptr;
  Gpu* reader = nullptr;
  std::uint32_t seeds[2] = {};
  Mark values[2] = {};
  std::optional<Fault> fault;

  kernels::ProbeRecord& record() const { return reader->slate->record; }
};

class CudaProber final : public LinkProber {
 public:
  explicit CudaProber(const std::optional<Injection>& injection) : injection_(injection) {
    require(cuda_device_count() > 0, [] { return fmt::format("no GPU: {}", why_no_cuda()); }, ErrorCode::unsupported);
    // Contexts, memory and kernels take a GPU tenths of a second: all of them at once. What fails here fails again where it is told.
    std::vector<std::jthread> starting;
    for (int device = 0; device < cuda_device_count(); ++device)
      starting.emplace_back([&made = gpus_[device], device] {
        try {
          made = std::make_unique<Gpu>(device);
        } catch (const Error&) {
        }
      });
  }

  std::vector<Report> run(const ProbeStep& step) override {
    std::vector<Report> refused;
    ProbeStep possible = step;
    possible.pairs.clear();
    for (const DevicePair pair : step.pairs) {
      const std::string reason = open(pair);
      if (reason.empty())
        possible.pairs.push_back(pair);
      else
        refused.push_back({step.id, pair, Verdict::refused, -1, 0, reason});
    }
    auto reports = step.probe == Probe::check ? check(possible) : step.probe == Probe::rate ? rate(possible) : latency(possible);
    reports.insert(reports.end(), refused.begin(), refused.end());
    return reports;
  }

 private:
  Gpu& gpu(int device) {
    auto& made = gpus_[device];
    if (!made) made = std::make_unique<Gpu>(device);
    return *made;
  }

  /// Empty, or why CUDA does not map the one's memory for the other. Both ways, since what answers goes back.
  std::string open(DevicePair pair) {
    for (const DevicePair way : {pair, DevicePair{pair.to, pair.from}}) {
      require(way.from < cuda_device_count(), [&] { return fmt::format("CUDA shows no device {}", way.from); });
      (void)gpu(way.from);
      if (way.from == way.to) continue;
      const DeviceScope scope(way.from);
      const cudaError_t result = cudaDeviceEnablePeerAccess(way.to, 0);
      if (result == cudaSuccess || result == cudaErrorPeerAccessAlreadyEnabled) {
        (void)cudaGetLastError();
        continue;
      }
      (void)cudaGetLastError();
      // Eight peers at a time is a limit of CUDA's on machines without NVSwitch, and says nothing of the link.
      require(result != cudaErrorTooManyPeers, "CUDA maps no more peers", ErrorCode::unsupported);
      if (way == pair) return fmt::format("CUDA: {}", cudaGetErrorString(result));
    }
    return {};
  }

  Check prepare(const ProbeStep& step, DevicePair pair) {
    Check check{.pair = pair, .owner = &gpu(pair.to), .writer = &gpu(pair.from), .reader = &gpu(pair.to), .fault = {}};
    if (step.method == Method::load) std::swap(check.writer, check.reader);
    for (int round = 0; round < 2; ++round) {
      check.values[round] = ++marks_;
      check.seeds[round] = static_cast<std::uint32_t>(marks_);
    }
    if (injection_ && injection_->pair == pair) check.fault = injection_->kind;
    return check;
  }

  /// The owner's memory before the first round: margins and regions hold what no sender writes.
  void lay_out(const Check& check) {
    const DeviceScope scope(check.owner->device);
    kernels::launch_probe_write({.buffer = check.owner->buffer.get(), .regions = regions_, .margin = kernels::probe_margin, .seed = margin_seed}, check.owner->sender.get());
    drain(*check.owner, check.owner->sender);
    check.record() = {};
  }

  void watch(const ProbeStep& step, const Check& check) {
    const DeviceScope scope(check.reader->device);
    kernels::launch_probe_check({.buffer = check.owner->buffer.get(),
                                 .regions = regions_,
                                 .flag = check.owner->flags.get(),
                                 .seeds = {check.seeds[0], check.seeds[1]},
                                 .values = {check.values[0], check.values[1]},
                                 .margin_seed = margin_seed,
                                 .own = step.method != Method::load,
                                 .deadline_ns = nanoseconds(round_deadline),
                                 .record = &check.record()},
                                check.reader->watcher.get());
  }

  kernels::ProbeWrite writing(const Check& check, int round, Pack* buffer) const {
    return {.buffer = buffer,
            .regions = regions_,
            .seed = check.seeds[round],
            .corrupt = check.fault == Fault::corrupt ? regions_.region[2].begin + 777 : -1};
  }

  void send_data(const ProbeStep& step, const Check& check, int round, bool with_flag) {
    const CudaStream& stream = check.writer->sender;
    const bool by_engine = step.method == Method::copy_engine;
    kernels::ProbeWrite write = writing(check, round, by_engine ? check.writer->staging.get() : check.owner->buffer.get());
    if (with_flag) write.flag = check.owner->flags.get(), write.value = check.values[round];
    kernels::launch_probe_write(write, stream.get());
    if (!by_engine) return;
    for (const auto& region : regions_.region)
      cuda_check(cudaMemcpyPeerAsync(check.owner->buffer.get() + region.begin, check.owner->device, check.writer->staging.get() + region.begin,
                                     check.writer->device, std::size_t{region.packs} * sizeof(Pack), stream.get()));
  }

  void send_flag(const ProbeStep& step, const Check& check, int round) {
    const CudaStream& stream = check.writer->sender;
    const bool by_engine = step.method == Method::copy_engine;
    Mark* own = check.writer->flags.get() + 64;
    kernels::launch_probe_write({.buffer = nullptr, .regions = regions_, .data = false, .flag = by_engine ? own : check.owner->flags.get(), .value = check.values[round]},
                                stream.get());
    if (by_engine) cuda_check(cudaMemcpyPeerAsync(check.owner->flags.get(), check.owner->device, own, check.writer->device, sizeof(Mark), stream.get()));
  }

  /// Stores and copies are followed by a flag that the stream orders behind them; what the kernel itself orders is `flag`'s and
  /// `load`'s to show.
  void send(const ProbeStep& step, const Check& check, int round) {
    if (check.fault == Fault::drop) return;
    const DeviceScope scope(check.writer->device);
    if (check.fault == Fault::delay) {
      send_flag(step, check, round);
      wait_for([&] { return done(check, round); });
      return send_data(step, check, round, false);
    }
    const bool one_kernel = step.method == Method::flag || step.method == Method::load;
    send_data(step, check, round, one_kernel);
    if (!one_kernel) send_flag(step, check, round);
  }

  static bool done(const Check& check, int round) {
    return __atomic_load_n(&check.record().rounds, __ATOMIC_ACQUIRE) > static_cast<std::uint32_t>(round);
  }
  static bool failed(const Check& check) { return check.record().late != 0 || check.record().wrong != 0; }

  template <typename Come>
  static bool wait_for(Come come) {
    const auto deadline = SteadyClock::now() + host_deadline;
    while (!come())
      if (SteadyClock::now() > deadline) return false;
    return true;
  }

  std::vector<Report> check(const ProbeStep& step) {
    std::vector<Check> checks;
    for (const DevicePair pair : step.pairs) lay_out(checks.emplace_back(prepare(step, pair)));
    for (const Check& check : checks) watch(step, check);
    // Resident before anything is sent.
    for (const Check& check : checks)
      require(wait_for([&] { return __atomic_load_n(&check.record().started, __ATOMIC_ACQUIRE) != 0; }), "a kernel did not start", ErrorCode::timeout);
    for (int round = 0; round < 2; ++round) {
      for (const Check& check : checks)
        if (round == 0 || !failed(check)) send(step, check, round);
      for (const Check& check : checks)
        if (round == 0 || !failed(check)) (void)wait_for([&] { return done(check, round); });
    }
    std::vector<Report> reports;
    for (const Check& check : checks) {
      drain(*check.reader, check.reader->watcher);
      drain(*check.writer, check.writer->sender);
      reports.push_back(verdict_of(step, check));
    }
    return reports;
  }

  Report verdict_of(const ProbeStep& step, const Check& check) const {
    const kernels::ProbeRecord& record = check.record();
    Report report{step.id, check.pair, Verdict::ok, -1, 0, {}};
    const bool second = record.rounds == 2;
    if (record.late != 0) {
      report.verdict = Verdict::hang;
      report.reason = fmt::format("the flag did not come within {} ms{}, and {}", round_deadline.count(), second ? " when written anew" : "",
                                  record.wrong != 0 ? "neither did the data" : "the data did");
    } else if (record.wrong != 0) {
      report.verdict = Verdict::wrong_data;
      report.first_bad_offset = static_cast<std::int64_t>(record.first_bad) * 16;
      report.reason = fmt::format("{} of {} packs were not what was sent{}, the first at byte {}", record.wrong, total_packs(),
                                  second ? " when its owner had written the memory anew" : "", report.first_bad_offset);
    } else if (record.rounds < 2) {
      report.verdict = Verdict::inconclusive;
      report.reason = "the kernel that looks did not end";
    }
    return report;
  }

  std::uint32_t total_packs() const {
    std::uint32_t packs = 0;
    for (const auto& region : regions_.region) packs += region.packs + 2 * kernels::probe_margin;
    return packs - kernels::probe_margin;  // the last region has nothing behind it
  }

  void copy(const ProbeStep& step, DevicePair pair, int times) {
    Gpu &from = gpu(pair.from), &to = gpu(pair.to);
    Pack* own = from.staging.get();
    Pack* peers = to.buffer.get();
    if (step.method == Method::copy_engine) {
      for (int i = 0; i < times; ++i) cuda_check(cudaMemcpyPeerAsync(peers, to.device, own, from.device, rate_bytes, from.sender.get()));
      return;
    }
    const bool loads = step.method == Method::load;
    kernels::launch_probe_copy({.to = loads ? own : peers, .from = loads ? peers : own, .packs = rate_bytes / sizeof(Pack), .passes = times},
                               from.multiprocessors, from.sender.get());
  }

  std::vector<Report> rate(const ProbeStep& step) {
    for (const DevicePair pair : step.pairs) {
      const DeviceScope scope(pair.from);
      copy(step, pair, 1);  // also wakes links that sleep
    }
    for (const DevicePair pair : step.pairs) drain(gpu(pair.from), gpu(pair.from).sender);
    for (const DevicePair pair : step.pairs) {
      Gpu& from = gpu(pair.from);
      const DeviceScope scope(pair.from);
      cuda_check(cudaEventRecord(from.begin.event, from.sender.get()));
      copy(step, pair, passes);
      cuda_check(cudaEventRecord(from.end.event, from.sender.get()));
    }
    std::vector<Report> reports;
    for (const DevicePair pair : step.pairs) {
      Gpu& from = gpu(pair.from);
      drain(from, from.sender);
      float ms = 0;
      cuda_check(cudaEventElapsedTime(&ms, from.begin.event, from.end.event));
      reports.push_back({step.id, pair, Verdict::ok, -1, static_cast<double>(rate_bytes) * passes / (double{ms} * 1e6), {}});
    }
    return reports;
  }

  std::vector<Report> latency(const ProbeStep& step) {
    for (const DevicePair pair : step.pairs) {
      marks_ += Mark{1} << 32;  // beyond what any flag of this process holds
      Gpu &a = gpu(pair.from), &b = gpu(pair.to);
      a.slate->elapsed_ns = 0;
      const auto launch = [&](Gpu& own, Gpu& peer, bool serves) {
        const DeviceScope scope(own.device);
        // A GPU with itself plays on two lines, each player polls its own.
        const std::size_t mine = own.device == peer.device && serves ? 96 : 32, theirs = own.device == peer.device && !serves ? 96 : 32;
        kernels::launch_probe_ping_pong({.theirs = peer.flags.get() + theirs,
                                         .mine = own.flags.get() + mine,
                                         .base = marks_,
                                         .rounds = ping_pongs,
                                         .serves = serves,
                                         .deadline_ns = nanoseconds(round_deadline),
                                         .elapsed_ns = &a.slate->elapsed_ns},
                                        serves ? own.sender.get() : own.watcher.get());
      };
      launch(b, a, false);
      launch(a, b, true);
    }
    std::vector<Report> reports;
    for (const DevicePair pair : step.pairs) {
      Gpu &a = gpu(pair.from), &b = gpu(pair.to);
      drain(a, a.sender);
      drain(b, b.watcher);
      const double us = static_cast<double>(a.slate->elapsed_ns) / 1000 / (2.0 * ping_pongs);
      reports.push_back({step.id, pair, us > 0 ? Verdict::ok : Verdict::hang, -1, us, us > 0 ? "" : "a flag that two kernels send to and fro was lost"});
    }
    return reports;
  }

  const std::optional<Injection> injection_;
  const kernels::ProbeRegions regions_ = kernels::probe_regions_of(buffer_bytes);
  std::map<int, std::unique_ptr<Gpu>> gpus_;
  Mark marks_ = 0;
};

}  // namespace

std::unique_ptr<LinkProber> make_link_prober(const std::optional<Injection>& injection) { return std::make_unique<CudaProber>(injection); }

}  // namespace collectives
