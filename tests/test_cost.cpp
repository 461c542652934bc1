#include "planner/cost.hpp"

#include <cmath>
#include <collectives/error.hpp>

#include "planner_cases.hpp"
#include "test.hpp"

using namespace collectives;

namespace {

Cost cost_on(const Fabric& fabric, const Schedule& schedule) { return cost_of(schedule, fabric, Limits(fabric)); }
Cost cost_on(const Fabric& fabric, AlgorithmChoice choice) { return cost_on(fabric, build_schedule(choice, fabric.ranks)); }

}  // namespace

TEST_CASE("while tiles follow each other, a schedule takes what its busiest port sends or receives", "[planner][cost]") {
  const int ranks = GENERATE(range(2, 17));
  const double n = ranks;
  const auto port_shares = [&](AlgorithmChoice choice) { return cost_on(uniform_fabric(ranks, 1000), choice).steady_us_per_byte * 1000; };
  CAPTURE(ranks);
  CHECK(port_shares({Algorithm::one_shot}) == Approx(n - 1));
  CHECK(port_shares({Algorithm::two_shot}) == Approx(2 * (n - 1) / n));
  CHECK(port_shares({Algorithm::ring}) == Approx(2 * (n - 1) / n));
  CHECK(port_shares({Algorithm::kary_tree, 15}) == Approx(n - 1));
  CHECK(cost_on(uniform_fabric(ranks), {Algorithm::two_shot}).sent_share == Approx(2 * (n - 1) / n));
}

TEST_CASE("a first tile passes the rounds one by one, and those behind it all at once", "[planner][cost]") {
  const Cost chain = cost_on(uniform_fabric(5, 1000), {Algorithm::kary_tree, 1});
  CHECK(chain.rounds == 8);
  CHECK(chain.first_us_per_byte == Approx(8.0 / 1000));
  CHECK(chain.steady_us_per_byte == Approx(2.0 / 1000));
  const KernelCosts free{.round_us = 0, .transfer_us = 0, .tile_transfer_us = 0, .relay_us = 0, .combine_us_per_byte = 0};
  CHECK(chain.predicted_us(1e6, 1, free) - chain.latency_us == Approx(8000));
  CHECK(chain.predicted_us(1e6, 4, free) - chain.latency_us == Approx(8000 / 4.0 + 3 * 2000 / 4.0));
  CHECK(chain.predicted_us(1e6, 1e6, free) - chain.latency_us == Approx(2000).epsilon(0.001));
}

TEST_CASE("every round waits for its slowest link", "[planner][cost]") {
  Fabric fabric = uniform_fabric(4);
  const double before = cost_on(fabric, {Algorithm::one_shot}).latency_us;
  CHECK(before == Approx(1.25 + 0.7));
  set_link(fabric, 0, 2, false, 5'000, 2'000);
  CHECK(cost_on(fabric, {Algorithm::one_shot}).latency_us == Approx(before + 1.3));
  CHECK(cost_on(fabric, {Algorithm::two_shot}).latency_us == Approx(1.25 + 2 * 2.0));
}

TEST_CASE("a slow link slows exactly the schedules that use it", "[planner][cost]") {
  Fabric fabric = uniform_fabric(4);
  for (const auto& [from, to] : {std::pair(0, 2), std::pair(2, 0)}) set_link(fabric, from, to, false, 5'000, 2'000);
  const auto slowed = [&](const Schedule& schedule) {
    return cost_on(fabric, schedule).steady_us_per_byte / cost_on(uniform_fabric(4), schedule).steady_us_per_byte;
  };
  CHECK(slowed(one_shot_all_reduce(4)) > 10);
  CHECK(slowed(two_shot_all_reduce(4)) > 10);
  CHECK(slowed(ring_all_reduce(std::vector<int>{0, 1, 2, 3})) == Approx(1));
  CHECK(slowed(ring_all_reduce(std::vector<int>{0, 2, 1, 3})) > 10);
}

TEST_CASE("what ways share adds up, and is named", "[planner][cost]") {
  // All that crosses between the first two ranks and the last two passes one resource of its own direction.
  Fabric fabric = uniform_fabric(4, 1000);
  fabric.resources.push_back({ResourceKind::socket, 0, 2, 300});
  fabric.resources.push_back({ResourceKind::socket, 2, 0, 300});
  for (int from = 0; from < 4; ++from)
    for (int to = 0; to < 4; ++to)
      if (from / 2 != to / 2) fabric.links[fabric.index(from, to)].route.push_back(static_cast<std::uint16_t>(8 + from / 2));
  const Limits limits(fabric);
  const Cost two_shot = cost_of(two_shot_all_reduce(4), fabric, limits);
  CHECK(two_shot.steady_us_per_byte == Approx(8 / 4.0 / 300));
  CHECK(to_string(limits[two_shot.busiest], fabric) == "the link between sockets on the way from rank 0 to rank 2");
  CHECK(cost_of(ring_all_reduce(std::vector{0, 1, 2, 3}), fabric, limits).steady_us_per_byte == Approx(6 / 4.0 / 300));
}

TEST_CASE("a chunk counts by its weight", "[planner][cost]") {
  Schedule schedule{.ranks = 2, .chunks = 2, .rounds = {{{Action::reduce, 0, 0, 1}, {Action::reduce, 1, 1, 0}}}};
  const Fabric fabric = uniform_fabric(2, 1000);
  CHECK(cost_on(fabric, schedule).steady_us_per_byte * 1000 == Approx(0.5));
  schedule.weights = {1, 3};
  CHECK(cost_on(fabric, schedule).steady_us_per_byte * 1000 == Approx(0.75));
  CHECK(cost_on(fabric, schedule).sent_share == Approx(0.75));
}

TEST_CASE("storing to many peers at once through a CPU's root costs bandwidth, to two of them it does not", "[planner][cost]") {
  const auto steady = [](int ranks, bool root) {
    Fabric fabric = uniform_fabric(ranks, 1000);
    for (FabricLink& link : fabric.links) link.root = root;
    return cost_on(fabric, {Algorithm::one_shot});
  };
  CHECK(steady(3, true).steady_us_per_byte == steady(3, false).steady_us_per_byte);
  CHECK(steady(4, true).steady_us_per_byte == Approx(steady(4, false).steady_us_per_byte / 0.57));
  CHECK(steady(4, true).load_us_per_byte == steady(4, false).steady_us_per_byte);
}

TEST_CASE("cost knows schedules, not names", "[planner][cost]") {
  const Fabric fabric = uniform_fabric(6);
  const Cost binary = cost_on(fabric, {Algorithm::binary_tree}), kary = cost_on(fabric, {Algorithm::kary_tree, 2});
  for (const double bytes : {1.0, 1e4, 1e9})
    for (const double tiles : {1.0, 7.0}) CHECK(binary.predicted_us(bytes, tiles, direct_kernels) == kary.predicted_us(bytes, tiles, direct_kernels));
  CHECK_THROWS_AS(cost_on(fabric, one_shot_all_reduce(5)), Error);
}

TEST_CASE("a link of no bandwidth costs much, but not infinitely much", "[planner][cost]") {
  Fabric fabric = uniform_fabric(2);
  set_link(fabric, 0, 1, true, 0, 0);
  CHECK(cost_on(fabric, {Algorithm::one_shot}).steady_us_per_byte > 0.5);
  CHECK(std::isfinite(cost_on(fabric, {Algorithm::one_shot}).steady_us_per_byte));
}

TEST_CASE("a ring of two H200 that read what the other has for them takes what was measured", "[planner][cost]") {
  Fabric fabric = uniform_fabric(2);
  const Cost pushed = cost_on(fabric, {Algorithm::ring});
  pull_pairs(fabric, [](int, int) { return true; });
  const Cost pulled = cost_on(fabric, {Algorithm::ring});
  CHECK(pushed.pulled_rounds == 0);
  CHECK(pulled.pulled_rounds == 2);
  // 256 KB in one tile, and 16 MB in seven as slots of 5 MB made them.
  CHECK(pulled.predicted_us(256 << 10, 1, general_kernels) == Approx(26).epsilon(0.15));
  CHECK(pulled.predicted_us(16 << 20, 7, general_kernels) == Approx(195).epsilon(0.15));
}
