#include "planner/planner.hpp"

#include <algorithm>
#include <collectives/error.hpp>
#include <cstdlib>
#include <limits>
#include <tuple>

#include "planner_cases.hpp"
#include "test.hpp"

using namespace collectives;

namespace {

PlannerOptions with_slots() {
  PlannerOptions options;
  options.sentinel_slot_bytes = options.flagged_slot_bytes = std::size_t{16} << 20;
  return options;
}

PlannerOptions forcing(AlgorithmChoice choice) {
  PlannerOptions options = with_slots();
  options.forced = choice;
  return options;
}

Algorithm chosen(const Planner& planner, std::size_t bytes) {
  return planner.all_reduce(bytes / 2, DataType::bfloat16, ReduceOp::sum).choice.algorithm;
}

constexpr std::size_t kib = 1024, mib = 1024 * kib;

// Some pairs share a fast link, all others go through the host.
template <typename IsFast>
Fabric fabric_where(int ranks, IsFast is_fast) {
  Fabric fabric = uniform_fabric(ranks, 50'000);
  for (int from = 0; from < ranks; ++from)
    for (int to = 0; to < ranks; ++to)
      if (from != to && !is_fast(from, to)) set_link(fabric, from, to, false, 2'000, 20'000);
  return fabric;
}

Fabric circle_of(int ranks) {
  return fabric_where(ranks, [&](int from, int to) { return (from + 1) % ranks == to || (to + 1) % ranks == from; });
}

Fabric star_of(int ranks) {
  return fabric_where(ranks, [](int from, int to) { return from == 0 || to == 0; });
}

Machine two_gpus() {
  Machine machine;
  for (int device = 0; device < 2; ++device) {
    Node gpu;
    gpu.kind = NodeKind::gpu;
    gpu.name = "GPU";
    gpu.pci = device == 0 ? "0000:01:00.0" : "0000:02:00.0";
    gpu.device = device;
    gpu.compute_capability = 90;
    gpu.multiprocessors = 132;
    machine.nodes.push_back(gpu);
  }
  for (const int from : {0, 1}) {
    Peer peer;
    peer.from = from;
    peer.to = 1 - from;
    peer.access = true;
    peer.path = "NV18";
    machine.peers.push_back(peer);
  }
  return machine;
}

}  // namespace

TEST_CASE("a rank alone has a plan for every collective, by which nothing leaves it", "[planner]") {
  const Planner planner(uniform_fabric(1), with_slots());
  for (int c = 0; c < collective_count; ++c) {
    const PlanRequest request{.collective = static_cast<Collective>(c), .count = 1000};
    CAPTURE(name_of(request.collective));
    const PlanReport report = planner.explain(request);
    const Program& program = planner.program(request, report.plan, 0);
    REQUIRE(program.steps.size() == 1);
    CHECK(program.steps[0].own == Own::input);
    CHECK(program.steps[0].store);
    CHECK(program.steps[0].sends.empty());
    CHECK(report.candidates.size() == 1);
    CHECK(report.candidates[0].busiest == "nothing");
    CHECK(report.plan.predicted_us > 0);
  }
  CHECK_THAT(planner.explain({.count = 1}).explanation, ContainsSubstring("Nothing leaves the rank"));
}

TEST_CASE("on four NVLink GPUs one-shot gives way to two-shot between 256 and 512 KB", "[planner][select]") {
  const Planner planner(uniform_fabric(4), with_slots());
  CHECK(chosen(planner, 8 * kib) == Algorithm::one_shot);
  CHECK(chosen(planner, 256 * kib) == Algorithm::one_shot);
  CHECK(chosen(planner, 512 * kib) == Algorithm::two_shot);
  CHECK(chosen(planner, 64 * mib) == Algorithm::two_shot);
}

TEST_CASE("two ranks stay with one-shot until combining every operand twice costs more than a second hop", "[planner][select]") {
  const Planner planner(uniform_fabric(2), with_slots());
  for (std::size_t bytes = 2; bytes <= mib; bytes *= 2) CHECK(chosen(planner, bytes) == Algorithm::one_shot);
  for (std::size_t bytes = 16 * mib; bytes <= (std::size_t{1} << 32); bytes *= 2) CHECK(chosen(planner, bytes) == Algorithm::two_shot);
}

TEST_CASE("where only neighbours are well connected a ring wins, where all are connected to one trees do", "[planner][select]") {
  CHECK(chosen(Planner(circle_of(6), with_slots()), 64 * mib) == Algorithm::ring);
  for (const std::size_t bytes : {256 * kib, 16 * mib, 256 * mib}) CHECK(chosen(Planner(star_of(4), with_slots()), bytes) >= Algorithm::binary_tree);
}

TEST_CASE("invariant results are left to the direct algorithms even where others are faster", "[planner][select]") {
  PlannerOptions options = with_slots();
  options.invariant = true;
  const Planner planner(circle_of(6), options);
  for (std::size_t bytes = 2; bytes <= 64 * mib; bytes *= 2) CHECK(is_direct(chosen(planner, bytes)));
}

TEST_CASE("a forced algorithm is taken at every size, any arity included", "[planner][select]") {
  for (const AlgorithmChoice choice : every_algorithm()) {
    const Planner planner(uniform_fabric(5), forcing(choice));
    for (const std::size_t count : {1, 100'000}) {
      const Plan plan = planner.all_reduce(count, DataType::float32, ReduceOp::max);
      CAPTURE(to_string(choice), count);
      CHECK(plan.choice == choice);
      CHECK(plan.bytes == 4 * count);
      CHECK(planner.routine(choice).programs.size() == 5);
    }
  }
  // An arity means nothing for others than k-ary trees.
  CHECK(Planner(uniform_fabric(3), forcing({Algorithm::ring, 5})).all_reduce(8, DataType::int8, ReduceOp::sum).choice ==
        AlgorithmChoice{Algorithm::ring});
}

TEST_CASE("the planner refuses what cannot be planned", "[planner]") {
  CHECK_THROWS_AS(Planner(uniform_fabric(0), with_slots()), Error);
  CHECK_THROWS_AS(Planner(uniform_fabric(17), with_slots()), Error);
  Fabric torn = uniform_fabric(3);
  torn.links.pop_back();
  CHECK_THROWS_AS(Planner(torn, with_slots()), Error);
  CHECK_THROWS_WITH(Planner(uniform_fabric(3), forcing({Algorithm::kary_tree, 0})), ContainsSubstring("1 to 15"));
  CHECK_THROWS_WITH(Planner(uniform_fabric(3), forcing({Algorithm::kary_tree, 16})), ContainsSubstring("1 to 15"));
  PlannerOptions torn_between = forcing({Algorithm::ring});
  torn_between.invariant = true;
  CHECK_THROWS_WITH(Planner(uniform_fabric(3), torn_between), ContainsSubstring("invariant"));
  const Planner planner(uniform_fabric(3), with_slots());
  CHECK_THROWS_WITH(planner.routine({Algorithm::kary_tree, 7}), ContainsSubstring("kary_tree:7"));
  CHECK_THROWS_AS(planner.all_reduce(1, static_cast<DataType>(99), ReduceOp::sum), Error);
  CHECK_THROWS_AS(planner.all_reduce(1, DataType::int8, static_cast<ReduceOp>(99)), Error);
  CHECK_THROWS_AS(planner.all_reduce(std::numeric_limits<std::size_t>::max(), DataType::float64, ReduceOp::sum), Error);
}

TEST_CASE("two planners on the same fabric make the same plans", "[planner][select]") {
  const int ranks = GENERATE(2, 3, 8, 16);
  const Planner one(circle_of(ranks), with_slots()), other(circle_of(ranks), with_slots());
  CHECK(one.digest() == other.digest());
  if (ranks > 2) CHECK(one.digest() != Planner(star_of(ranks), with_slots()).digest());
  for (std::size_t bytes = 2; bytes <= 256 * mib; bytes *= 2) {
    const Plan a = one.all_reduce(bytes / 2, DataType::float16, ReduceOp::sum),
               b = other.all_reduce(bytes / 2, DataType::float16, ReduceOp::sum);
    CHECK(a.choice == b.choice);
    CHECK(a.predicted_us == b.predicted_us);
    CHECK(std::tuple(a.wire, a.blocks, a.threads, a.tile_bytes, a.stages) ==
          std::tuple(b.wire, b.blocks, b.threads, b.tile_bytes, b.stages));
  }
}

TEST_CASE("no plan has several tiles on fewer stages than its program needs", "[planner][select]") {
  const int ranks = GENERATE(2, 5, 16);
  PlannerOptions options = forcing({});
  options.sentinel_slot_bytes = options.flagged_slot_bytes = std::size_t{1} << 20;
  for (const AlgorithmChoice choice : every_algorithm()) {
    options.forced = choice;
    const Planner planner(uniform_fabric(ranks), options);
    const Program& program = planner.routine(choice).programs[0];
    for (const std::size_t bytes : {2 * kib, 999 * kib, 64 * mib}) {
      const Plan plan = planner.all_reduce(bytes / 2, DataType::bfloat16, ReduceOp::sum);
      const std::size_t at_once = plan.tile_bytes * static_cast<std::size_t>(plan.blocks);
      const std::size_t chunk = (bytes + static_cast<std::size_t>(program.chunks) - 1) / static_cast<std::size_t>(program.chunks);
      CAPTURE(ranks, to_string(choice), bytes, plan.blocks, plan.tile_bytes, plan.stages);
      if (chunk > at_once * static_cast<std::size_t>(plan.stages)) CHECK(plan.stages >= program.min_stages);
    }
  }
}

TEST_CASE("a report has every candidate, the plan's first, each with its reason", "[planner][explain]") {
  const Planner planner(uniform_fabric(4), with_slots());
  const PlanReport report = planner.explain(4096, DataType::bfloat16, ReduceOp::sum);
  REQUIRE(report.candidates.size() == 9);
  CHECK(report.candidates[0].choice == report.plan.choice);
  CHECK(report.candidates[0].predicted_us == report.plan.predicted_us);
  CHECK(report.candidates[0].steps == 1);
  CHECK(report.candidates[0].bytes_per_rank == Approx(3 * 8192));
  for (std::size_t i = 1; i < report.candidates.size(); ++i) {
    CHECK(report.candidates[i - 1].predicted_us <= report.candidates[i].predicted_us);
    CHECK_THAT(report.candidates[i].note, ContainsSubstring("passed over"));
    CHECK_THAT(report.explanation, ContainsSubstring(to_string(report.candidates[i].choice)));
  }
  for (const char* words : {"8 KiB", "4 GPUs", "one_shot in 1 round", "taken: the least predicted time", "sent per rank", "takes 0.03 us at least, latency apart; what this plan moves takes 0.07 us, little beside latency", "rank 0's NVLink port, outgoing"})
    CHECK_THAT(report.explanation, ContainsSubstring(words));
}

TEST_CASE("a report says when the choice was not free", "[planner][explain]") {
  const PlanReport forced = Planner(uniform_fabric(4), forcing({Algorithm::kary_tree, 5})).explain(10, DataType::int8, ReduceOp::sum);
  REQUIRE(forced.candidates.size() == 10);
  CHECK(forced.candidates[0].choice == AlgorithmChoice{Algorithm::kary_tree, 5});
  CHECK(forced.candidates[0].note == "taken: forced");
  CHECK(forced.candidates[1].note == "passed over: another is forced");
  PlannerOptions options = with_slots();
  options.invariant = true;
  const PlanReport invariant = Planner(circle_of(5), options).explain(1 << 20, DataType::float32, ReduceOp::sum);
  CHECK(is_direct(invariant.candidates[1].choice.algorithm));
  CHECK_THAT(invariant.candidates[2].note, ContainsSubstring("bits would depend"));
  CHECK_THAT(invariant.explanation, ContainsSubstring("Only direct algorithms"));
  CHECK_THAT(invariant.explanation, ContainsSubstring("through the host only"));
}

TEST_CASE("algorithms are written as they are read", "[planner][names]") {
  for (const AlgorithmChoice choice : every_algorithm()) CHECK(parse_algorithm(to_string(choice)) == choice);
  CHECK(parse_algorithm("kary_tree") == AlgorithmChoice{Algorithm::kary_tree, 2});
  CHECK(to_string({Algorithm::kary_tree, 3}) == "kary_tree:3");
  CHECK(to_string({Algorithm::ring, 3}) == "ring");
  for (const char* text : {"", "rings", "Ring", "ring:2", "kary_tree:", "kary_tree:0", "kary_tree:16", "kary_tree:3x", "kary_tree:-1",
                           "kary_tree:99999999999", ":3"}) {
    CAPTURE(text);
    CHECK_THROWS_WITH(parse_algorithm(text), ContainsSubstring("one_shot, two_shot, ring, binary_tree, kary_tree, balanced_tree"));
  }
}

TEST_CASE("a machine is planned for without having it", "[planner]") {
  const PlanReport report = plan_all_reduce(two_gpus(), {0, 1}, 4096, DataType::bfloat16, ReduceOp::sum);
  CHECK(report.plan.choice.algorithm == Algorithm::one_shot);
  CHECK_THAT(report.explanation, ContainsSubstring("2 GPUs"));
  CHECK_THROWS_AS(plan_all_reduce(two_gpus(), {0}, 1, DataType::int8, ReduceOp::sum), Error);
  CHECK_THROWS_AS(plan_all_reduce(two_gpus(), {0, 5}, 1, DataType::int8, ReduceOp::sum), Error);
  CHECK_THROWS_AS(plan_all_reduce(two_gpus(), std::vector<int>(17, 0), 1, DataType::int8, ReduceOp::sum), Error);
}

TEST_CASE("copy engines are taken where they are forced and every rank has its own, and their pieces fit their slots", "[planner][copies]") {
  const int ranks = GENERATE(2, 3, 4, 8, 16);
  PlannerOptions options = forcing({Algorithm::copy_two_shot});
  options.copy_slot_bytes = GENERATE(std::size_t{64} << 10, std::size_t{3} << 20, std::size_t{448} << 20);
  const Planner planner(uniform_fabric(ranks), options);
  for (std::size_t bytes = 1; bytes <= 4096 * mib; bytes = bytes * 3 + 5) {
    CAPTURE(ranks, options.copy_slot_bytes, bytes);
    const Plan plan = planner.all_reduce(bytes, DataType::uint8, ReduceOp::sum);
    REQUIRE(plan.choice.algorithm == Algorithm::copy_two_shot);
    if (!plan.copies) continue;
    CHECK((plan.blocks >= 1 && plan.blocks <= 16 && plan.threads == 512 && plan.stages == 3 && plan.wire == Wire::flagged && !plan.direct && !plan.wide));
    CHECK((plan.tile_bytes > 0 && plan.tile_bytes % 512 == 0));
    CHECK(static_cast<std::size_t>(3 * (ranks - 1)) * plan.tile_bytes <= options.copy_slot_bytes);
    // Copies of two groups a piece: as many as fit a queue.
    const std::size_t chunk = (bytes / 16 + 1) / static_cast<std::size_t>(ranks) * 16;
    CHECK(2 * (chunk / plan.tile_bytes) * static_cast<std::size_t>(ranks) <= 512);
  }
  CHECK(planner.all_reduce(64 << 10, DataType::bfloat16, ReduceOp::sum).copies);
  CHECK_THAT(planner.explain(64 << 10, DataType::bfloat16, ReduceOp::sum).explanation, ContainsSubstring("Copy engines move pieces of"));
}

TEST_CASE("copy engines are taken through host memory too where they are forced, and their pieces fit their slots", "[planner][copies]") {
  const int ranks = GENERATE(2, 3, 4, 8);
  Fabric fabric = uniform_fabric(ranks);
  apply_peer_policy(fabric, [](int, int) { return true; });
  PlannerOptions options = forcing({Algorithm::copy_two_shot});
  options.copy_slot_bytes = GENERATE(std::size_t{64} << 10, std::size_t{8} << 20);
  const Planner planner(fabric, options);
  int by_copies = 0;
  for (std::size_t bytes = 1; bytes <= 1024 * mib; bytes = bytes * 3 + 5) {
    CAPTURE(ranks, options.copy_slot_bytes, bytes);
    const Plan plan = planner.all_reduce(bytes, DataType::uint8, ReduceOp::sum);
    if (!plan.copies) continue;
    ++by_copies;
    CHECK((plan.blocks >= 1 && plan.blocks <= 16 && plan.stages == 2 && plan.wire == Wire::flagged && plan.crews == 1 && !plan.wide));
    CHECK((plan.tile_bytes > 0 && plan.tile_bytes % 512 == 0));
    CHECK(static_cast<std::size_t>(2 * ranks) * plan.tile_bytes <= options.copy_slot_bytes);
    const std::size_t chunk = (bytes / 16 + 1) / static_cast<std::size_t>(ranks) * 16;
    CHECK(2 * (chunk / plan.tile_bytes) * static_cast<std::size_t>(ranks) <= 128);
  }
  CHECK(by_copies > 8);
  CHECK_FALSE(planner.all_reduce(std::size_t{1} << 40, DataType::uint8, ReduceOp::sum).copies);
}

TEST_CASE("what copy engines cannot carry goes by two-shot's kernels", "[planner][copies]") {
  PlannerOptions options = forcing({Algorithm::copy_two_shot});
  options.copy_slot_bytes = 64 * mib;
  const PlanRequest usual{.count = mib, .type = DataType::bfloat16};
  PlanRequest scaled = usual, carried = usual, endless = usual;
  scaled.scaled = carried.carried = true;
  endless.count = 16'384 * mib;
  const Planner planner(uniform_fabric(4), options);
  CHECK(planner.plan(usual).copies);
  CHECK_FALSE(planner.plan(usual).direct);
  CHECK_FALSE(planner.plan(scaled).copies);
  CHECK_FALSE(planner.plan(carried).copies);
  CHECK_FALSE(planner.plan(endless).copies);
  CHECK(planner.plan(endless).direct);
  Fabric shared = uniform_fabric(4), host = host_fabric(4);
  shared.ranks_per_device = 2;
  CHECK_FALSE(Planner(shared, options).plan(usual).copies);
  CHECK_FALSE(Planner(host, options).plan(usual).copies);
  options.copy_slot_bytes = 0;
  CHECK_FALSE(Planner(uniform_fabric(4), options).plan(usual).copies);
  CHECK_THROWS_WITH(Planner(circle_of(4), options), ContainsSubstring("rank 0 does not reach rank 2 directly"));
  options.invariant = true;
  CHECK_NOTHROW(Planner(uniform_fabric(4), options));
  // Nobody else takes it yet.
  const Planner free(uniform_fabric(4), with_slots());
  CHECK_THROWS(free.routine({Algorithm::copy_two_shot}));
}

namespace {

/// GPUs whose host memory is slow, and all of which read what the others have for them.
Fabric reading(int ranks) {
  Fabric fabric = uniform_fabric(ranks);
  for (FabricLink& link : fabric.staged)
    if (!link.direct) link.mb_per_s = 25'000;
  pull_pairs(fabric, [](int, int) { return true; });
  return fabric;
}

/// Is anything read out of a peer's pool?
bool pulls(const Planner& planner, const PlanRequest& request) {
  const Program& program = planner.program(request, planner.plan(request), 0);
  const auto reads = [](const Edge& edge) { return edge.offered && !edge.common; };
  return std::any_of(program.steps.begin(), program.steps.end(), [&](const Step& step) { return std::any_of(step.receives.begin(), step.receives.end(), reads); });
}

}  // namespace

TEST_CASE("what is read over links goes through host memory where it is small and may travel over sentinels", "[planner][pull]") {
  const int ranks = GENERATE(2, 3, 4, 8);
  CAPTURE(ranks);
  const Planner planner(reading(ranks), with_slots());
  const PlanRequest small{.count = 2 * kib, .type = DataType::bfloat16}, large{.count = 8 * mib, .type = DataType::bfloat16};
  const Plan through_host = planner.plan(small);
  CHECK((through_host.through_host && through_host.wire == Wire::sentinel));
  CHECK_FALSE(pulls(planner, small));
  CHECK(planner.fabric(through_host) == without_pulls(planner.fabric()));
  CHECK(pulls(planner, large));
  CHECK_FALSE(planner.plan(large).through_host);
  CHECK(pulls(planner, {.count = 1 * kib, .type = DataType::int32}));
  CHECK(pulls(planner, {.collective = Collective::all_gather, .count = 2 * kib, .type = DataType::bfloat16}));
  CHECK_FALSE(pulls(planner, {.collective = Collective::reduce_scatter, .count = 64, .type = DataType::bfloat16}));

  const PlanReport report = planner.explain(small);
  CHECK(report.plan.through_host);
  CHECK(report.plan.predicted_us == through_host.predicted_us);
  CHECK_THAT(report.explanation, ContainsSubstring("Receivers that could read out of their peers' memory would take"));
  // By what can be done through host memory, not by the links that it leaves alone.
  CHECK(report.bound_us == Approx(Planner(without_pulls(planner.fabric()), with_slots()).explain(small).bound_us));
  CHECK(report.bound_us > 2 * Planner(uniform_fabric(ranks), with_slots()).explain(small).bound_us);
  CHECK(report.candidates[0].gap > -1e-6);
  CHECK_THAT(planner.explain(large).explanation, !ContainsSubstring("Receivers that could"));

  PlannerOptions flags = with_slots();
  flags.wire = Wire::flagged;
  CHECK(pulls(Planner(reading(ranks), flags), small));
  CHECK_FALSE(Planner(uniform_fabric(ranks), with_slots()).plan(small).through_host);
}

TEST_CASE("what is read over links comes in tiles as large as slots allow", "[planner][pull]") {
  PlannerOptions options = with_slots();
  options.forced = AlgorithmChoice{GENERATE(Algorithm::one_shot, Algorithm::two_shot, Algorithm::ring)};
  const Planner planner(reading(2), options);
  for (std::size_t bytes = 2 * mib; bytes <= 256 * mib; bytes *= 2) {
    const PlanRequest request{.count = bytes / 2, .type = DataType::bfloat16};
    const Plan plan = planner.plan(request);
    const Program& program = planner.program(request, plan, 0);
    const std::size_t row = static_cast<std::size_t>(program.rows * plan.blocks) * plan.tile_bytes, longest = longest_chunk(program, bytes / 16) * 16;
    CAPTURE(name_of(plan.choice.algorithm), bytes, plan.tile_bytes, plan.blocks, plan.stages);
    CHECK(row * static_cast<std::size_t>(plan.stages) <= options.flagged_slot_bytes);
    const bool whole = plan.tile_bytes * static_cast<std::size_t>(plan.blocks) >= longest;
    CHECK((whole || row * 5 / 2 > options.flagged_slot_bytes));
  }
}
