#include <cstdio>
#include <cstring>
#include <exception>
#include <numeric>
#include <string_view>
#include <thread>
#include <vector>

#include "base/require.hpp"
#include "exec/arguments.hpp"
#include "kernels/program_body.hpp"
#include "planner/planner.hpp"

// Two host threads run the kernels' own code over the flagged wire: with `correct` as it is, with `relaxed` with a flag that
// orders nothing. Under ThreadSanitizer the first must be clean and the second must be reported: that shows that a missing
// release would be seen. The hardware of most CPUs would let both pass.

using namespace collectives;

namespace {

template <typename T>
struct RelaxedWire : kernels::FlaggedWire<T> {
  static void publish(Mark* flag, Mark value) { signal_relaxed(flag, value); }
};

struct OneThread {
  static constexpr int thread() { return 0; }
  static constexpr int threads() { return 1; }
  static constexpr int block() { return 0; }
  static constexpr int blocks() { return 1; }
  static constexpr void sync() {}
};

struct Yield {
  void operator()() const { std::this_thread::yield(); }
};

constexpr int ranks = 2, calls = 50;
constexpr std::size_t count = 1000;

/// The pools of two ranks as a communicator makes them, without one.
struct Memory {
  kernels::Layout layout{.sentinel_bytes = 1 << 17, .flagged_bytes = 1 << 17};
  std::vector<Pack> pools[ranks];

  Memory() {
    for (auto& pool : pools) {
      pool.assign(layout.bytes() / sizeof(Pack), Pack{});
      // Epoch 1 comes first, so that zeros are no call's header.
      reinterpret_cast<kernels::Control*>(pool.data())->next = mark(1, 0);
    }
  }
};

template <template <typename> typename W>
std::size_t run_rank(int rank, Memory& memory, const Planner& planner) {
  RankContext context{.rank = rank, .ranks = ranks, .timeout_ns = 30'000'000'000, .first_epoch = 1, .layout = memory.layout};
  for (std::size_t peer = 0; peer < ranks; ++peer) context.pools[peer] = context.common[peer] = reinterpret_cast<std::byte*>(memory.pools[peer].data());
  kernels::FaultRecord fault{};
  Arguments arguments(context, &fault);
  std::vector<int> in(count), out(count);
  std::size_t wrong = 0;
  for (int call = 0; call < calls; ++call) {
    for (std::size_t i = 0; i < count; ++i) in[i] = call * 1000 + rank + static_cast<int>(i);
    const Plan plan = planner.all_reduce(count, DataType::int32, ReduceOp::sum);
    const auto& args = arguments.program({in.data(), out.data(), count, DataType::int32, ReduceOp::sum}, plan, planner.routine(plan.choice).programs[static_cast<std::size_t>(rank)]);
    kernels::Walk<int, kernels::SumOnly, W<int>, OneThread, Yield>(args, {}, {}, {}).run();
    for (std::size_t i = 0; i < count; ++i) wrong += out[i] != 2 * (call * 1000 + static_cast<int>(i)) + 1;
  }
  return wrong + fault.kind;
}

template <template <typename> typename W>
std::size_t run() {
  Memory memory;
  PlannerOptions options;
  options.forced = AlgorithmChoice{Algorithm::two_shot};
  options.wire = Wire::flagged;
  options.sentinel_slot_bytes = memory.layout.sentinel_bytes;
  options.flagged_slot_bytes = memory.layout.flagged_bytes;
  const Planner planner(host_fabric(ranks), options);
  std::size_t wrong[ranks] = {};
  std::thread other([&] { wrong[1] = run_rank<W>(1, memory, planner); });
  wrong[0] = run_rank<W>(0, memory, planner);
  other.join();
  return wrong[0] + wrong[1];
}

}  // namespace

int main(int argc, char** argv) try {
  const std::string_view what = argc == 2 ? argv[1] : "";
  require(what == "correct" || what == "relaxed", "expected one argument: correct or relaxed");
  const std::size_t wrong = what == "correct" ? run<kernels::FlaggedWire>() : run<RelaxedWire>();
  std::printf("%d calls of %d ranks, %zu wrong\n", calls, ranks, wrong);
  return wrong == 0 ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 2;
}
