#include "perf/p2p_measure.hpp"

#include <fmt/format.h>

#include <functional>
#include <source_location>

#include "perf/cuda_checked.hpp"
#include "perf/p2p_kernels.hpp"
#include "perf/place.hpp"
#include "perf/statistics.hpp"

namespace perf {
namespace {

constexpr double deadline_s = 120;
constexpr std::size_t pack_bytes = 16;

void check_launch(int result, std::source_location where = std::source_location::current()) {
  checked(static_cast<cudaError_t>(result), where);
}

/// Memory of the device that is current.
class DeviceMemory {
 public:
  explicit DeviceMemory(std::size_t bytes) {
    checked(cudaMalloc(&data_, bytes));
    const cudaError_t cleared = cudaMemset(data_, 0, bytes);
    if (cleared != cudaSuccess) cudaFree(data_);
    checked(cleared);
  }
  ~DeviceMemory() { cudaFree(data_); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  void* get() const { return data_; }

 private:
  void* data_ = nullptr;
};

/// One end of a pair: its GPU, a buffer there, a stream and two events of it.
struct End {
  End(int gpu, std::size_t bytes) : device(gpu), current((use_device(gpu), true)), memory(bytes) {}
  int device;
  bool current;  ///< made current before the members below are made
  DeviceMemory memory;
  OwnedStream stream;
  OwnedEvent begin, end;
};

bool can_access(int from, int to) {
  int yes = 0;
  checked(cudaDeviceCanAccessPeer(&yes, from, to));
  return yes != 0;
}

/// Peer access between two GPUs for a scope, in both directions, on or off; off again afterwards.
class PairAccess {
 public:
  PairAccess(int a, int b, bool on) : a_(a), b_(b) {
    switch_off(a, b);
    switch_off(b, a);
    if (!on || a == b) return;
    on_ = switch_on(a, b) && switch_on(b, a);
  }
  ~PairAccess() {
    switch_off(a_, b_);
    switch_off(b_, a_);
  }
  PairAccess(const PairAccess&) = delete;
  PairAccess& operator=(const PairAccess&) = delete;

  /// Can kernels of either GPU reach the other?
  bool mapped() const { return on_ || a_ == b_; }

 private:
  static bool switch_on(int from, int to) {
    if (!can_access(from, to)) return false;
    use_device(from);
    checked(cudaDeviceEnablePeerAccess(to, 0));
    return true;
  }
  static void switch_off(int from, int to) {
    if (from == to || cudaSetDevice(from) != cudaSuccess) return;
    // That it was off already is an error to CUDA; it must not be found by the next call.
    if (cudaDeviceDisablePeerAccess(to) != cudaSuccess) cudaGetLastError();
  }

  int a_, b_;
  bool on_ = false;
};

double median_of(int repetitions, const std::function<double()>& measure_once) {
  measure_once();
  std::vector<double> samples;
  for (int i = 0; i < repetitions; ++i) samples.push_back(measure_once());
  return summarize(std::move(samples)).median;
}

/// Microseconds of `calls` copies from one end to the other; the other direction meanwhile on the other's stream if asked for.
double time_copies(End& from, End& to, std::size_t bytes, int calls, bool both_ways) {
  use_device(from.device);
  checked(cudaEventRecord(from.begin.get(), from.stream.get()));
  if (both_ways) {
    use_device(to.device);
    checked(cudaStreamWaitEvent(to.stream.get(), from.begin.get(), 0));
  }
  const std::size_t half = both_ways ? bytes : 0;  // the way back uses the second halves, so that no memory is both read and written
  for (int call = 0; call < calls; ++call) {
    use_device(from.device);
    checked(cudaMemcpyPeerAsync(to.memory.get(), to.device, from.memory.get(), from.device, bytes, from.stream.get()));
    if (!both_ways) continue;
    use_device(to.device);
    checked(cudaMemcpyPeerAsync(static_cast<std::byte*>(from.memory.get()) + half, from.device,
                                static_cast<std::byte*>(to.memory.get()) + half, to.device, bytes, to.stream.get()));
  }
  if (both_ways) {
    use_device(to.device);
    checked(cudaEventRecord(to.end.get(), to.stream.get()));
    use_device(from.device);
    checked(cudaStreamWaitEvent(from.stream.get(), to.end.get(), 0));
  }
  use_device(from.device);
  checked(cudaEventRecord(from.end.get(), from.stream.get()));
  wait_for(from.stream.get(), deadline_s);
  return elapsed_us(from.begin, from.end);
}

/// Blocks that saturate any link that is known.
int copy_blocks(int device) {
  int multiprocessors = 0;
  checked(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device));
  return multiprocessors;
}

double time_sm_copy(End& own, End& peer, const P2pSettings& settings, bool loads) {
  constexpr int passes = 4;
  const CopyArgs args{.to = loads ? own.memory.get() : peer.memory.get(),
                      .from = loads ? peer.memory.get() : own.memory.get(),
                      .packs = settings.bytes / pack_bytes,
                      .passes = passes};
  use_device(own.device);
  checked(cudaEventRecord(own.begin.get(), own.stream.get()));
  check_launch(launch_copy(args, copy_blocks(own.device), own.stream.get()));
  checked(cudaEventRecord(own.end.get(), own.stream.get()));
  wait_for(own.stream.get(), deadline_s);
  return elapsed_us(own.begin, own.end) / passes;
}

/// Microseconds of a kernel that serves `rounds` rounds, or a negative figure if either side gave up.
double time_ping_pong(End& a, End& b, std::uint32_t rounds) {
  // A poll takes some 0.5 us, so this gives up after a second or more.
  constexpr std::uint32_t max_spins = 2'000'000;
  for (End* end : {&a, &b}) {
    use_device(end->device);
    checked(cudaMemset(end->memory.get(), 0, 256));
    checked(cudaDeviceSynchronize());
  }
  // Flags and the word that says "gave up" lie in cache lines of their own.
  const auto word = [](End& end, int line) { return static_cast<std::uint32_t*>(end.memory.get()) + line * 32; };
  const auto launch = [&](End& own, End& peer, bool serves) {
    use_device(own.device);
    check_launch(launch_ping_pong({.theirs = word(peer, 0),
                                   .mine = word(own, 0),
                                   .rounds = rounds,
                                   .serves = serves,
                                   .max_spins = max_spins,
                                   .gave_up = word(own, 1)},
                                  own.stream.get()));
  };
  launch(b, a, false);
  use_device(a.device);
  checked(cudaEventRecord(a.begin.get(), a.stream.get()));
  launch(a, b, true);
  checked(cudaEventRecord(a.end.get(), a.stream.get()));
  std::uint32_t gave_up = 0;
  for (End* end : {&a, &b}) {
    use_device(end->device);
    wait_for(end->stream.get(), deadline_s);
    std::uint32_t value = 0;
    checked(cudaMemcpy(&value, word(*end, 1), sizeof(value), cudaMemcpyDeviceToHost));
    gave_up |= value;
  }
  return gave_up != 0 ? -1 : elapsed_us(a.begin, a.end);
}

/// Calls `measure(from end, to end, access, cell)` for every ordered pair. A GPU with itself gets two ends of its own.
template <typename Measure>
Matrix for_every_pair(Matrix matrix, std::size_t bytes, bool access, Measure&& measure) {
  for (int from = 0; from < matrix.size; ++from)
    for (int to = 0; to < matrix.size; ++to) {
      const PairAccess pair(from, to, access);
      End a(from, bytes), b(to, bytes);
      measure(a, b, pair, matrix.at(from, to));
    }
  return matrix;
}

}  // namespace

std::vector<std::string> gpu_names() {
  std::vector<std::string> names;
  for (int gpu = 0; gpu < survey_gpus().gpus; ++gpu) names.push_back(make_cuda_place(gpu, false)->describe());
  return names;
}

std::string why_no_gpu() { return survey_gpus().why_none; }

Matrix measure_access(int gpus) {
  Matrix matrix("P2P Connectivity Matrix (1: kernels reach the peer's memory)", "access", gpus);
  for (int from = 0; from < gpus; ++from)
    for (int to = 0; to < gpus; ++to) matrix.at(from, to) = from == to || can_access(from, to) ? 1 : 0;
  return matrix;
}

Matrix measure_copy_bandwidth(int gpus, bool access, bool both_ways, const P2pSettings& settings) {
  Matrix empty(
      fmt::format("{} P2P={} Bandwidth (GB/s) Matrix", both_ways ? "Bidirectional" : "Unidirectional", access ? "Enabled" : "Disabled"),
      fmt::format("{}_copy_{}_gb_per_s", both_ways ? "bidirectional" : "unidirectional", access ? "p2p" : "no_p2p"), gpus);
  return for_every_pair(std::move(empty), 2 * settings.bytes, access, [&](End& a, End& b, const PairAccess&, double& cell) {
    constexpr int calls = 5;
    const double us = median_of(settings.repetitions, [&] { return time_copies(a, b, settings.bytes, calls, both_ways); }) / calls;
    const double moved = static_cast<double>(settings.bytes) * (both_ways ? 2 : 1) * (a.device == b.device ? 2 : 1);
    cell = moved / us / 1000;
  });
}

Matrix measure_copy_latency(int gpus, bool access, const P2pSettings& settings) {
  Matrix empty(fmt::format("P2P={} Latency Matrix (us), 16-byte copies", access ? "Enabled" : "Disabled"),
               fmt::format("copy_latency_{}_us", access ? "p2p" : "no_p2p"), gpus);
  return for_every_pair(std::move(empty), 4096, access, [&](End& a, End& b, const PairAccess&, double& cell) {
    constexpr int calls = 100;
    cell = median_of(settings.repetitions, [&] { return time_copies(a, b, pack_bytes, calls, false); }) / calls;
  });
}

Matrix measure_sm_bandwidth(int gpus, bool loads, const P2pSettings& settings) {
  Matrix empty(fmt::format("SM {} Bandwidth (GB/s) Matrix, 16 bytes a lane", loads ? "Loads" : "Stores"),
               loads ? "sm_loads_gb_per_s" : "sm_stores_gb_per_s", gpus);
  return for_every_pair(std::move(empty), settings.bytes, true, [&](End& a, End& b, const PairAccess& pair, double& cell) {
    if (!pair.mapped()) return;
    const double us = median_of(settings.repetitions, [&] { return time_sm_copy(a, b, settings, loads); });
    cell = static_cast<double>(settings.bytes) * (a.device == b.device ? 2 : 1) / us / 1000;
  });
}

Matrix measure_flag_latency(int gpus, const P2pSettings& settings) {
  Matrix empty("One-Way Flag Latency (us) Matrix, relaxed store to the peer and poll there", "flag_latency_us", gpus);
  return for_every_pair(std::move(empty), 4096, true, [&](End& a, End& b, const PairAccess& pair, double& cell) {
    if (!pair.mapped()) return;
    for (End* end : {&a, &b}) {
      use_device(end->device);
      check_launch(load_p2p_kernels());
    }
    // The difference of a long and a short run leaves out the launches and the wait for the partner's start.
    constexpr std::uint32_t few = 1000, many = 11000;
    std::vector<double> samples;
    for (int i = 0; i <= settings.repetitions; ++i) {
      const double short_us = time_ping_pong(a, b, few);
      const double long_us = short_us < 0 ? -1 : time_ping_pong(a, b, many);
      if (long_us < 0) return;
      if (i > 0) samples.push_back((long_us - short_us) / (many - few) / 2);
    }
    cell = summarize(std::move(samples)).median;
  });
}

}  // namespace perf
