#include "planner/cost.hpp"

#include <cmath>
#include <collectives/error.hpp>

#include "planner_cases.hpp"
#include "test.hpp"

using namespace collectives;

namespace {

double predicted(AlgorithmChoice choice, const Fabric& fabric, double bytes) {
  const Cost cost = cost_of(build_schedule(choice, fabric.ranks), fabric);
  return cost.fixed_us + cost.us_per_byte * bytes;
}

constexpr double kib = 1024, mib = 1024 * kib;

}  // namespace

TEST_CASE("predictions are near what direct kernels reached on four and two H200", "[planner][cost]") {
  struct Measured {
    int ranks;
    Algorithm algorithm;
    double bytes, us;
  };
  for (const auto& [ranks, algorithm, bytes, us] :
       {Measured{4, Algorithm::one_shot, 8 * kib, 3.5}, Measured{4, Algorithm::one_shot, 512 * kib, 8.9},
        Measured{4, Algorithm::two_shot, 512 * kib, 9.3}, Measured{4, Algorithm::two_shot, mib, 11.0},
        Measured{4, Algorithm::two_shot, 64 * mib, 322}, Measured{2, Algorithm::one_shot, 8 * kib, 2.7},
        Measured{2, Algorithm::one_shot, mib, 6.7}, Measured{2, Algorithm::two_shot, 4 * mib, 18.3},
        Measured{2, Algorithm::two_shot, 64 * mib, 202}}) {
    const double found = predicted({algorithm}, uniform_fabric(ranks), bytes);
    CAPTURE(ranks, name_of(algorithm), bytes, us, found);
    CHECK(found > 0.8 * us);
    CHECK(found < 1.2 * us);
  }
}

TEST_CASE("a schedule's bandwidth term is what its busiest port sends or receives", "[planner][cost]") {
  const int ranks = GENERATE(range(2, 17));
  const Fabric fabric = uniform_fabric(ranks);
  const double n = ranks;
  const auto share = [&](AlgorithmChoice choice) { return cost_of(build_schedule(choice, ranks), fabric).sent_share; };
  CAPTURE(ranks);
  CHECK(share({Algorithm::one_shot}) == Approx(n - 1));
  CHECK(share({Algorithm::two_shot}) == Approx(2 * (n - 1) / n));
  CHECK(share({Algorithm::ring}) == Approx(2 * (n - 1) / n));
  CHECK(share({Algorithm::kary_tree, 15}) == Approx(n - 1));
  const double one_shot = cost_of(one_shot_all_reduce(ranks), fabric).us_per_byte;
  const double two_shot = cost_of(two_shot_all_reduce(ranks), fabric).us_per_byte;
  // What the ports carry, and beyond that the operands that one-shot combines on every rank.
  CHECK(one_shot / two_shot > n / 2);
}

TEST_CASE("a slow link slows exactly the schedules that use it", "[planner][cost]") {
  Fabric fabric = uniform_fabric(4);
  for (const auto& [from, to] : {std::pair(0, 2), std::pair(2, 0)})
    fabric.links[static_cast<std::size_t>(from * 4 + to)] = {false, 5'000, 2'000};
  const auto slowed = [&](const Schedule& schedule) {
    return cost_of(schedule, fabric).us_per_byte / cost_of(schedule, uniform_fabric(4)).us_per_byte;
  };
  CHECK(slowed(one_shot_all_reduce(4)) > 10);
  CHECK(slowed(two_shot_all_reduce(4)) > 10);
  CHECK(slowed(ring_all_reduce(std::vector<int>{0, 1, 2, 3})) == Approx(1));
  CHECK(slowed(ring_all_reduce(std::vector<int>{0, 2, 1, 3})) > 10);
  const double before = cost_of(one_shot_all_reduce(4), uniform_fabric(4)).fixed_us;
  CHECK(cost_of(one_shot_all_reduce(4), fabric).fixed_us == Approx(before + 1.3));
}

TEST_CASE("cost knows schedules, not names", "[planner][cost]") {
  const Fabric fabric = uniform_fabric(6);
  const Cost binary = cost_of(build_schedule({Algorithm::binary_tree}, 6), fabric);
  const Cost kary = cost_of(build_schedule({Algorithm::kary_tree, 2}, 6), fabric);
  CHECK(binary.fixed_us == kary.fixed_us);
  CHECK(binary.us_per_byte == kary.us_per_byte);
  CHECK_THROWS_AS(cost_of(one_shot_all_reduce(5), fabric), Error);
}

TEST_CASE("a link of no bandwidth costs much, but not infinitely much", "[planner][cost]") {
  Fabric fabric = uniform_fabric(2);
  fabric.links.assign(4, FabricLink{});
  CHECK(cost_of(one_shot_all_reduce(2), fabric).us_per_byte > 0.5);
  CHECK(std::isfinite(cost_of(one_shot_all_reduce(2), fabric).us_per_byte));
}
