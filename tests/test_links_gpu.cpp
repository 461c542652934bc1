// Links of real GPUs. With one GPU a pair is that GPU with itself: memory, kernels and verdicts are the same, only the way is short.
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <sys/wait.h>

#include <chrono>
#include <collectives/verify.hpp>

#include "base/cuda.hpp"
#include "contexts.hpp"
#include "fake_prober.hpp"
#include "test.hpp"
#include "topology/verify_child.hpp"
#include "topology/verify_quick.hpp"
#include "topology/verify_serve.hpp"

using namespace collectives;

namespace {

DevicePair some_pair() { return cuda_device_count() > 1 ? DevicePair{1, 0} : DevicePair{0, 0}; }

/// An area of each rank where all can reach it, ranks spread over the GPUs.
struct Areas {
  explicit Areas(int ranks) {
    for (int rank = 0; rank < ranks; ++rank) {
      const int device = rank % cuda_device_count();
      const DeviceScope scope(device);
      for (int peer = 0; peer < cuda_device_count(); ++peer) {
        if (peer != device && cudaDeviceEnablePeerAccess(peer, 0) != cudaSuccess) (void)cudaGetLastError();
      }
      void* memory = nullptr;
      cuda_check(cudaMalloc(&memory, bytes));
      cuda_check(cudaMemset(memory, 0xff, bytes));
      cuda_check(cudaDeviceSynchronize());
      quick.push_back({.rank = rank, .device = device, .peers = ((1u << ranks) - 1) & ~(1u << rank), .areas = {}});
      base.push_back(static_cast<std::byte*>(memory));
    }
    for (QuickRank& rank : quick) std::copy(base.begin(), base.end(), rank.areas.begin());
  }
  ~Areas() {
    for (std::byte* memory : base) (void)cudaFree(memory);
  }
  Areas(const Areas&) = delete;
  Areas& operator=(const Areas&) = delete;

  static constexpr std::size_t bytes = 1 << 20;
  std::vector<QuickRank> quick;
  std::vector<std::byte*> base;
};

}  // namespace

int collectives::contexts_of_looking() {
  (void)detect_machine();
  (void)look_around();
  void* driver = ::dlopen("libcuda.so.1", RTLD_NOW);
  if (!driver) return -1;
  const auto state = reinterpret_cast<CUresult (*)(CUdevice, unsigned*, int*)>(::dlsym(driver, "cuDevicePrimaryCtxGetState"));
  int contexts = 0;
  for (int device = 0; device < cuda_device_count(); ++device) {
    unsigned flags = 0;
    int active = 0;
    if (!state || state(device, &flags, &active) != CUDA_SUCCESS) return -1;
    contexts += active;
  }
  return contexts;
}

TEST_CASE("looking at the machine makes no context, which would take CUDA seconds", "[topology][gpu]") {
  const int status = std::system((real_prober()[0] + " look").c_str());
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("every method is right on a real link, and its rate and latency are measured", "[topology][links][gpu]") {
  const auto prober = make_link_prober({});
  const DevicePair pair = some_pair();
  for (const Method method : {Method::store, Method::load, Method::copy_engine, Method::flag}) {
    const Report report = prober->run({0, Probe::check, method, {pair}}).at(0);
    CAPTURE(name_of(method), report.reason);
    CHECK(report.verdict == Verdict::ok);
    if (method == Method::flag) continue;
    const Report rate = prober->run({0, Probe::rate, method, {pair}}).at(0);
    CHECK(rate.figure > 0.5);
    WARN(name_of(method) << ": " << rate.figure << " GB/s");
  }
  const Report latency = prober->run({0, Probe::latency, Method::flag, {pair}}).at(0);
  CHECK(latency.verdict == Verdict::ok);
  CHECK((latency.figure > 0.1 && latency.figure < 100));
  WARN("flag: " << latency.figure << " us");
}

TEST_CASE("a fault in a real link is found by every method, and where it is", "[topology][links][gpu]") {
  const auto [kind, verdict] = GENERATE(table<Injection::Kind, Verdict>({{Injection::Kind::drop, Verdict::hang},
                                                                         {Injection::Kind::delay, Verdict::wrong_data},
                                                                         {Injection::Kind::corrupt, Verdict::wrong_data}}));
  const DevicePair pair = some_pair();
  const auto prober = make_link_prober(Injection{kind, pair});
  for (const Method method : {Method::store, Method::load, Method::copy_engine, Method::flag}) {
    const Report report = prober->run({0, Probe::check, method, {pair}}).at(0);
    CAPTURE(static_cast<int>(kind), name_of(method), report.reason);
    CHECK(report.verdict == verdict);
    if (kind == Injection::Kind::corrupt) CHECK(report.first_bad_offset == (8192 + 3 + 777) * 16);
    CHECK_FALSE(report.reason.empty());
  }
  if (pair.from == pair.to) return;
  // The way back is whole.
  CHECK(prober->run({0, Probe::check, Method::flag, {{pair.to, pair.from}}}).at(0).verdict == Verdict::ok);
}

TEST_CASE("this machine's links are verified within five seconds", "[topology][links][gpu]") {
  const Machine machine = detect_machine();
  VerifyOptions options;
  options.prober = real_prober();
  const auto begin = std::chrono::steady_clock::now();
  const Verification verification = verify_machine(machine, options);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  WARN("verified " << verification.links.size() << " links and " << verification.flows.size() << " pairs of flows in " << seconds << " s");
  for (const LinkVerdict& link : verification.links) {
    CAPTURE(link.pair.from, link.pair.to, name_of(link.method), link.reason);
    CHECK(link.verdict == Verdict::ok);
  }
  for (const FlowVerdict& flow : verification.flows) CHECK_FALSE(flow.collapsed);
  CHECK(seconds < 5);
  Machine proved = machine;
  apply(proved, verification);
  for (const Peer& peer : proved.peers)
    if (peer.access) CHECK((peer.evidence == Evidence::verified && peer.gb_per_s > 0 && peer.latency_us > 0));
}

TEST_CASE("a child that hangs on a real link is killed and named, and the others are verified", "[topology][links][gpu]") {
  if (cuda_device_count() < 2) return;
  VerifyOptions options;
  options.prober = real_prober();
  options.injection = Injection{Injection::Kind::hang, {0, 1}};
  options.flows = false;
  const Verification verification = verify_machine(detect_machine(), options);
  for (const LinkVerdict& link : verification.links) {
    CAPTURE(link.pair.from, link.pair.to, name_of(link.method), link.reason);
    CHECK(link.verdict == (link.pair == DevicePair{0, 1} ? Verdict::hang : Verdict::ok));
  }
}

TEST_CASE("a quick proof finds whole links whole, however often", "[topology][links][gpu]") {
  const int ranks = GENERATE(2, 3, 4);
  Areas areas(ranks);
  double best = 1e9;
  for (Mark call = 0; call < 20; ++call) {
    const auto begin = std::chrono::steady_clock::now();
    for (const QuickResult& result : verify_quickly(areas.quick, ranks, Areas::bytes, (call + 1) << 8)) CHECK((result.late == 0 && result.wrong == 0));
    best = std::min(best, std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
  }
  WARN(ranks << " ranks: a quick proof takes " << best << " ms");
}

TEST_CASE("a quick proof names the one link that drops or corrupts", "[topology][links][gpu]") {
  const int ranks = GENERATE(2, 4);
  const auto kind = GENERATE(Injection::Kind::drop, Injection::Kind::corrupt);
  CAPTURE(ranks, static_cast<int>(kind));
  Areas areas(ranks);
  const auto results = verify_quickly(areas.quick, ranks, Areas::bytes, 1 << 20, Injection{kind, {ranks - 1, 0}});
  for (int rank = 0; rank < ranks; ++rank) {
    CAPTURE(rank);
    const std::uint32_t expected = rank == 0 ? 1u << (ranks - 1) : 0;
    CHECK(results[static_cast<std::size_t>(rank)].late == (kind == Injection::Kind::drop ? expected : 0));
    CHECK(results[static_cast<std::size_t>(rank)].wrong == (kind == Injection::Kind::corrupt ? expected : 0));
  }
}
