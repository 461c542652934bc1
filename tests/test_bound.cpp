#include "planner/bound.hpp"

#include <bit>
#include <collectives/plan.hpp>
#include <numeric>
#include <random>

#include "machines.hpp"
#include "planner/cost.hpp"
#include "planner/flow.hpp"
#include "planner/survey.hpp"
#include "planner_cases.hpp"
#include "test.hpp"

using namespace collectives;

namespace {

/// Links of their own of random rates between all pairs, and ports below what these sum to. A cut can then be counted by hand.
struct Ported {
  Fabric fabric;
  std::vector<std::uint64_t> port;

  explicit Ported(int ranks, std::mt19937& random) : fabric(uniform_fabric(ranks)) {
    for (int rank = 0; rank < ranks; ++rank) {
      port.push_back(1 + random() % 3000);
      fabric.resources[static_cast<std::size_t>(2 * rank)].mb_per_s = static_cast<std::uint32_t>(port.back());
      fabric.resources[static_cast<std::size_t>(2 * rank) + 1].mb_per_s = 1'000'000;
    }
    for (FabricLink& link : fabric.links) link.mb_per_s = 1 + random() % 1000;
  }

  std::uint64_t leaving(std::uint32_t inside) const {
    std::uint64_t total = 0;
    for (int from = 0; from < fabric.ranks; ++from) {
      std::uint64_t links = 0;
      for (int to = 0; to < fabric.ranks; ++to)
        if ((inside >> from & 1) != 0 && (inside >> to & 1) == 0) links += fabric.link(from, to).mb_per_s;
      total += std::min(links, port[static_cast<std::size_t>(from)]);
    }
    return total;
  }
};

Fabric turned_round(Fabric fabric) {
  const Fabric before = fabric;
  for (int from = 0; from < fabric.ranks; ++from)
    for (int to = 0; to < fabric.ranks; ++to) fabric.links[fabric.index(from, to)] = before.link(to, from);
  return fabric;
}

}  // namespace

TEST_CASE("a greatest flow is what a least cut lets through", "[planner][bound]") {
  FlowNetwork network(6);
  for (const auto& [from, to, capacity] : {std::tuple(0, 1, 16), std::tuple(0, 2, 13), std::tuple(2, 1, 4), std::tuple(1, 3, 12), std::tuple(3, 2, 9),
                                           std::tuple(2, 4, 14), std::tuple(4, 3, 7), std::tuple(3, 5, 20), std::tuple(4, 5, 4)})
    network.add_edge(from, to, capacity);
  CHECK(network.max_flow(0, 5) == 23);
  CHECK(network.source_side() == std::vector<bool>{true, true, true, false, true, false});
  CHECK(network.max_flow(5, 0) == 0);
  CHECK(network.max_flow(0, 5) == 23);
}

TEST_CASE("the cut bounds are the least of all subsets, exactly", "[planner][bound]") {
  const auto seed = GENERATE(take(40, random(0u, 1u << 30)));
  std::mt19937 random(seed);
  const int ranks = 2 + static_cast<int>(random() % 6);
  const Ported ported(ranks, random);
  CAPTURE(seed, ranks);
  const std::uint32_t all = (1u << ranks) - 1;
  std::uint64_t least = ~0ull, least_bytes = ~0ull, least_ranks = 1;
  for (std::uint32_t inside = 1; inside < all; ++inside) {
    const std::uint64_t bytes = ported.leaving(inside), count = static_cast<std::uint64_t>(std::popcount(inside));
    least = std::min(least, bytes);
    if (least_bytes == ~0ull || bytes * least_ranks < least_bytes * count) least_bytes = bytes, least_ranks = count;
  }
  const Cut gather = all_gather_cut(Limits(ported.fabric));
  CHECK(gather.mb_per_s * least_ranks == least_bytes * static_cast<std::uint64_t>(gather.ranks));
  CHECK(ported.leaving(gather.inside) == gather.mb_per_s);
  CHECK(std::popcount(gather.inside) == gather.ranks);
  const Cut reduce = all_reduce_cut(Limits(ported.fabric));
  CHECK(reduce.mb_per_s == least);
  CHECK(ported.leaving(reduce.inside) == least);
}

TEST_CASE("what has to cross cuts bounds a broadcast exactly, and nothing by more than all subsets prove", "[planner][bound]") {
  const auto seed = GENERATE(take(20, random(0u, 1u << 30)));
  std::mt19937 random(seed);
  const int ranks = 2 + static_cast<int>(random() % 6), root = static_cast<int>(random() % static_cast<unsigned>(ranks));
  const Ported ported(ranks, random);
  CAPTURE(seed, ranks, root);
  const auto broadcast = [&](std::uint32_t inside) { return (inside >> root & 1) != 0 ? 1e6 : 0; };
  const auto all_to_all = [&](std::uint32_t inside) { return 1e6 * std::popcount(inside) * (ranks - std::popcount(inside)); };
  double of_broadcast = 0, of_all_to_all = 0, of_one_rank = 0;
  for (std::uint32_t inside = 1; inside < (1u << ranks) - 1; ++inside) {
    const auto leaving = static_cast<double>(ported.leaving(inside));
    of_broadcast = std::max(of_broadcast, broadcast(inside) / leaving);
    of_all_to_all = std::max(of_all_to_all, all_to_all(inside) / leaving);
    if (std::popcount(inside) == 1) of_one_rank = std::max(of_one_rank, all_to_all(inside) / leaving);
  }
  const Limits limits(ported.fabric);
  CHECK(crossing_us(limits, broadcast) == Approx(of_broadcast));
  CHECK(crossing_us(limits, all_to_all) <= of_all_to_all * (1 + 1e-9));
  CHECK(crossing_us(limits, all_to_all) >= of_one_rank * (1 - 1e-9));
}

TEST_CASE("a reduce-scatter is an all-gather turned round", "[planner][bound]") {
  const auto seed = GENERATE(take(10, random(0u, 1u << 30)));
  std::mt19937 random(seed);
  Fabric fabric = uniform_fabric(5);
  for (FabricLink& link : fabric.links) link.mb_per_s = 1 + random() % 1000, link.route.clear();
  const Cut forth = all_gather_cut(Limits(fabric)), back = reduce_scatter_cut(Limits(turned_round(fabric)));
  CAPTURE(seed);
  CHECK(forth.mb_per_s * static_cast<std::uint64_t>(back.ranks) == back.mb_per_s * static_cast<std::uint64_t>(forth.ranks));
}

TEST_CASE("ports alone bound an all-gather by (N-1)/N, and what is shared by all is a cut of its own", "[planner][bound]") {
  Fabric fabric = uniform_fabric(8, 1000);
  const Cut ports = all_gather_cut(Limits(fabric));
  CHECK(ports.ranks == 7);
  CHECK(ports.mb_per_s == 1000);
  // One resource on the way of every pair that crosses.
  fabric.resources.push_back({ResourceKind::host_memory, 0, 4, 900});
  for (int from = 0; from < 8; ++from)
    for (int to = 0; to < 8; ++to)
      if (auto& route = fabric.links[fabric.index(from, to)].route; from / 4 != to / 4) route.insert(route.begin() + 1, 16);
  CHECK(all_reduce_cut(Limits(fabric)).mb_per_s == 900);
  CHECK(all_reduce_cut(Limits(fabric)).ranks == 4);
}

TEST_CASE("what has to leave a switch in an all-to-all is bounded by its uplink", "[planner][bound]") {
  const Machine machine = test_machine("pcie_switches_16x.json");
  std::vector<int> devices(16);
  std::iota(devices.begin(), devices.end(), 0);
  const PlanReport report = plan_call(machine, devices, {.collective = Collective::all_to_all, .count = 1 << 22, .type = DataType::bfloat16});
  CAPTURE(report.candidates[0].busiest, report.candidates[0].gap);
  CHECK_THAT(report.candidates[0].busiest, ContainsSubstring("uplink"));
  CHECK(report.candidates[0].gap == 0);
}

TEST_CASE("what host memory takes once for all its readers is bounded by their slots and by what each must write", "[planner][bound]") {
  const int ranks = GENERATE(range(2, 9));
  const auto [store, load, memory] = GENERATE(std::tuple(1000, 1000, 1'000'000), std::tuple(100, 1000, 1'000'000), std::tuple(1000, 1000, 1500));
  // Slots of their own into one memory and out of it.
  Fabric fabric = uniform_fabric(ranks);
  for (int rank = 0; rank < ranks; ++rank) {
    fabric.resources[static_cast<std::size_t>(2 * rank)] = {ResourceKind::slot_out, rank, rank, static_cast<std::uint32_t>(store)};
    fabric.resources[static_cast<std::size_t>(2 * rank) + 1] = {ResourceKind::slot_in, rank, rank, static_cast<std::uint32_t>(load)};
  }
  fabric.resources.push_back({ResourceKind::host_memory, 0, 0, static_cast<std::uint32_t>(memory)});
  for (int from = 0; from < ranks; ++from)
    for (int to = 0; to < ranks; ++to) {
      FabricLink& link = fabric.links[fabric.index(from, to)];
      link.direct = from == to;
      link.mb_per_s = 1'000'000;
      if (from != to) link.route.insert(link.route.begin() + 1, static_cast<std::uint16_t>(2 * ranks));
    }
  CAPTURE(ranks, store, load, memory);
  const Survey survey = survey_of(fabric);
  // Each chunk is read 2 (N-1) times, by ranks in equal parts at best, each reading half of a passage; each rank writes what it has.
  const double others = ranks - 1;
  const double expected = std::min({1.0 * store, load * ranks / (2 * others), memory / (1.5 * others + 0.5)});
  CHECK_THAT(survey.offering_bound_mb_per_s, Catch::Matchers::WithinRel(std::min(expected, 1.0 * memory), 5e-3));
  CHECK(survey.offering_bound_mb_per_s >= (1 - 1e-6) * survey.bound_mb_per_s);
  for (const AlgorithmChoice choice : {AlgorithmChoice{Algorithm::one_shot}, AlgorithmChoice{Algorithm::two_shot}, AlgorithmChoice{Algorithm::ring}}) {
    CAPTURE(to_string(choice));
    const Cost cost = cost_of(build_schedule(choice, survey), fabric, survey.offering_limits);
    CHECK(cost.load_us_per_byte * survey.offering_bound_mb_per_s >= 1 - 1e-6);
    // Where loads set the pace, nothing reads less than two-shot.
    if (choice.algorithm == Algorithm::two_shot && store == load && memory > 10'000) CHECK(cost.load_us_per_byte * survey.offering_bound_mb_per_s < 1 + 1e-6);
  }
}
