// Crews of blocks, of which GPUs have many, as host threads: the kernels' own code, where ThreadSanitizer sees it.
#include <barrier>
#include <deque>
#include <thread>

#include "exec/arguments.hpp"
#include "kernels/crew_body.hpp"
#include "planner/planner.hpp"
#include "test.hpp"

using namespace collectives;

namespace {

/// A thread of a block of a crew.
struct ThreadOfCrew {
  int thread_, threads_, crew_, block_, blocks_;
  std::barrier<>* met_;
  int thread() const { return thread_; }
  int threads() const { return threads_; }
  int crew() const { return crew_; }
  int block() const { return block_; }
  int blocks() const { return blocks_; }
  void sync() const { met_->arrive_and_wait(); }
};

struct YieldOfCrew {
  void operator()() const { std::this_thread::yield(); }
};

constexpr std::size_t slot_bytes = 1 << 17;

/// The pools of ranks of which none reaches another's, and their parts of common memory, as a communicator makes them, without one.
struct PoolsApart {
  kernels::Layout layout{.sentinel_bytes = slot_bytes, .flagged_bytes = slot_bytes};
  std::vector<std::vector<Pack>> pools, common;

  explicit PoolsApart(int ranks) {
    for (auto* all : {&pools, &common}) {
      all->assign(static_cast<std::size_t>(ranks), std::vector<Pack>(layout.bytes() / sizeof(Pack), Pack{}));
      // Epoch 1 comes first, so that zeros are no call's header.
      for (auto& pool : *all) reinterpret_cast<kernels::Control*>(pool.data())->next = mark(1, 0);
    }
  }

  RankContext context(int rank) {
    RankContext context{.rank = rank, .ranks = static_cast<int>(pools.size()), .timeout_ns = 60'000'000'000, .first_epoch = 1, .layout = layout};
    context.pools[static_cast<std::size_t>(rank)] = reinterpret_cast<std::byte*>(pools[static_cast<std::size_t>(rank)].data());
    for (std::size_t peer = 0; peer < pools.size(); ++peer) context.common[peer] = reinterpret_cast<std::byte*>(common[peer].data());
    context.out_of_reach = all_of(context.ranks) & ~mask_of(rank);
    return context;
  }
};

Fabric host_ranks_apart(int ranks) {
  Fabric fabric = host_fabric(ranks);
  apply_peer_policy(fabric, [](int, int) { return true; });
  return fabric;
}

/// Calls of one rank, each by all threads of all its crews.
class CrewedRank {
 public:
  CrewedRank(const RankContext& context, int threads) : context_(context), arguments_(context_, &fault_), threads_(threads) {}

  void call(const Call& call, const Plan& plan, const Program& program) {
    const auto& args = arguments_.program(call, plan, program);
    std::vector<std::thread> running;
    std::deque<std::barrier<>> met;
    for (int crew = 0; crew < plan.crews; ++crew)
      for (int block = 0; block < plan.blocks; ++block) {
        met.emplace_back(threads_);
        for (int thread = 0; thread < threads_; ++thread)
          running.emplace_back([&args, group = ThreadOfCrew{thread, threads_, crew, block, plan.blocks, &met.back()}] {
            kernels::CrewWalk<int, kernels::SumOnly, kernels::FlaggedWire<int>, ThreadOfCrew, YieldOfCrew>(args, {}, group, {}).run();
          });
      }
    for (std::thread& thread : running) thread.join();
  }
  std::uint32_t fault() const { return fault_.kind; }

 private:
  RankContext context_;
  kernels::FaultRecord fault_{};
  Arguments arguments_;
  int threads_;
};

}  // namespace

TEST_CASE("crews of threads sum in place and not, call after call, with one tile and with many", "[exec][host][crews]") {
  const auto [algorithm, crews] = GENERATE(std::pair(Algorithm::one_shot, 2), std::pair(Algorithm::two_shot, 3));
  const int ranks = GENERATE(2, 3);
  const int threads = GENERATE(1, 4);
  const bool in_place = GENERATE(false, true);
  PlannerOptions options;
  options.forced = AlgorithmChoice{algorithm};
  options.sentinel_slot_bytes = options.flagged_slot_bytes = slot_bytes;
  const Planner planner(host_ranks_apart(ranks), options);
  const auto& programs = planner.routine({algorithm}).programs_over(Wire::flagged);
  REQUIRE(programs[0].offers);
  PoolsApart memory(ranks);
  std::vector<std::size_t> wrong(static_cast<std::size_t>(ranks), 0);
  const auto run = [&](int rank) {
    CrewedRank crewed(memory.context(rank), threads);
    for (int call = 0; call < 6; ++call) {
      const std::size_t count = call % 2 == 0 ? 3000 : 40;
      std::vector<int> in(count), out(count);
      for (std::size_t i = 0; i < count; ++i) in[i] = call * 1000 + rank + static_cast<int>(i);
      Plan plan{.choice = {algorithm}, .wire = Wire::flagged, .bytes = count * sizeof(int), .blocks = 2, .crews = crews, .threads = threads, .tile_bytes = 256, .stages = 2};
      int* result = in_place ? in.data() : out.data();
      crewed.call({in.data(), result, count, DataType::int32, ReduceOp::sum}, plan, programs[static_cast<std::size_t>(rank)]);
      for (std::size_t i = 0; i < count; ++i) wrong[static_cast<std::size_t>(rank)] += result[i] != ranks * (call * 1000 + static_cast<int>(i)) + ranks * (ranks - 1) / 2;
    }
    wrong[static_cast<std::size_t>(rank)] += crewed.fault();
  };
  std::vector<std::thread> others;
  for (int rank = 1; rank < ranks; ++rank) others.emplace_back(run, rank);
  run(0);
  for (std::thread& other : others) other.join();
  CAPTURE(static_cast<int>(algorithm), ranks, threads, in_place);
  CHECK(wrong == std::vector<std::size_t>(static_cast<std::size_t>(ranks), 0));
}
