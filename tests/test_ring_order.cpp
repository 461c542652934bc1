#include "planner/ring_order.hpp"

#include <algorithm>
#include <numeric>
#include <random>

#include "planner/cost.hpp"
#include "planner/islands.hpp"
#include "planner/verify.hpp"
#include "planner_cases.hpp"
#include "test.hpp"

using namespace collectives;

namespace {

std::vector<int> natural(int ranks) {
  std::vector<int> order(static_cast<std::size_t>(ranks));
  std::iota(order.begin(), order.end(), 0);
  return order;
}

double steady(const Fabric& fabric, const std::vector<int>& order) {
  return cost_of(ring_all_reduce(order), fabric, Limits(fabric)).steady_us_per_byte;
}

/// Fast links around a circle in an order drawn at random, slow ones elsewhere.
Fabric hidden_circle(int ranks, std::mt19937& random) {
  auto order = natural(ranks);
  std::shuffle(order.begin(), order.end(), random);
  Fabric fabric = uniform_fabric(ranks, 50'000);
  for (FabricLink& link : fabric.links) link.mb_per_s = 1000;
  for (std::size_t i = 0; i < order.size(); ++i)
    fabric.links[fabric.index(order[i], order[(i + 1) % order.size()])].mb_per_s = 50'000;
  return fabric;
}

}  // namespace

TEST_CASE("where all orders are equal a ring keeps the natural one", "[planner][ring_order]") {
  const int ranks = GENERATE(2, 3, 7, 9, 10, 16);
  CHECK(ring_order(Limits(uniform_fabric(ranks))) == natural(ranks));
}

TEST_CASE("up to nine ranks a ring order is the best of all", "[planner][ring_order]") {
  const auto seed = GENERATE(take(12, random(0u, 1u << 30)));
  std::mt19937 random(seed);
  const int ranks = 3 + static_cast<int>(random() % 4);
  Fabric fabric = uniform_fabric(ranks, 9000);
  for (FabricLink& link : fabric.links) link.mb_per_s = 1 + random() % 10'000;
  fabric.resources.push_back({ResourceKind::socket, 0, 1, 4000});
  for (FabricLink& link : fabric.links)
    if (!link.route.empty() && random() % 2 == 0) link.route.push_back(static_cast<std::uint16_t>(fabric.resources.size() - 1));
  auto order = natural(ranks);
  double best = steady(fabric, order);
  while (std::next_permutation(order.begin() + 1, order.end())) best = std::min(best, steady(fabric, order));
  CAPTURE(seed, ranks);
  CHECK(steady(fabric, ring_order(Limits(fabric))) == Approx(best));
}

TEST_CASE("a ring that is hidden in the links is found", "[planner][ring_order]") {
  const int ranks = GENERATE(5, 9);
  std::mt19937 random(static_cast<unsigned>(ranks));
  const Fabric fabric = hidden_circle(ranks, random);
  CHECK(steady(fabric, ring_order(Limits(fabric))) == Approx(2.0 * (ranks - 1) / ranks / 50'000));
}

TEST_CASE("beyond nine ranks an order crosses between sockets no more than it must", "[planner][ring_order]") {
  // Odd ranks on one socket, even ones on the other.
  Fabric fabric = uniform_fabric(16, 50'000);
  fabric.resources.push_back({ResourceKind::socket, 0, 1, 50'000});
  fabric.resources.push_back({ResourceKind::socket, 1, 0, 50'000});
  for (int from = 0; from < 16; ++from)
    for (int to = 0; to < 16; ++to)
      if (from % 2 != to % 2) fabric.links[fabric.index(from, to)].route.push_back(static_cast<std::uint16_t>(32 + from % 2));
  CHECK(steady(fabric, natural(16)) > 7 * steady(fabric, ring_order(Limits(fabric))));
  CHECK(ring_order(Limits(fabric)) == ring_order(Limits(fabric)));
}

TEST_CASE("islands are ranks that all reach each other", "[planner][island]") {
  Fabric fabric = uniform_fabric(5);
  const auto refuse = [&](int a, int b) { apply_peer_policy(fabric, [=](int x, int y) { return x == a && y == b; }); };
  CHECK(islands_of(fabric) == std::vector<std::vector<int>>{{0, 1, 2, 3, 4}});
  refuse(0, 2);
  CHECK(islands_of(fabric) == std::vector<std::vector<int>>{{0, 1, 3, 4}, {2}});
  refuse(3, 4);
  CHECK(islands_of(fabric) == std::vector<std::vector<int>>{{0, 1, 3}, {2, 4}});
  apply_peer_policy(fabric, [](int, int) { return true; });
  CHECK(islands_of(fabric).size() == 5);
}

TEST_CASE("island schedules verify whatever the islands, and cross them once for each chunk and pair", "[planner][island]") {
  using Islands = std::vector<std::vector<int>>;
  const Islands islands = GENERATE(Islands{{0, 1}, {2, 3}}, Islands{{0, 3, 4}, {1}, {2, 5}}, Islands{{0, 1, 2}}, Islands{{0}, {1}, {2}},
                                   Islands{{0, 2, 4, 6, 8, 10, 12, 14}, {1, 3, 5, 7, 9, 11, 13, 15}},
                                   Islands{{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}, {15}});
  const Schedule schedule = island_all_reduce(islands);
  CHECK(verify(lower(schedule)) == "");
  std::vector<std::size_t> home(static_cast<std::size_t>(schedule.ranks));
  for (std::size_t i = 0; i < islands.size(); ++i)
    for (const int rank : islands[i]) home[static_cast<std::size_t>(rank)] = i;
  std::size_t crossings = 0;
  for (const auto& round : schedule.rounds)
    for (const Transfer& transfer : round) crossings += home[static_cast<std::size_t>(transfer.from)] != home[static_cast<std::size_t>(transfer.to)];
  CHECK(crossings == islands.size() * (islands.size() - 1) * static_cast<std::size_t>(schedule.chunks));
  CHECK_THROWS(island_all_reduce(std::vector<std::vector<int>>{{0, 1}, {1, 2}}));
}

TEST_CASE("in a double tree hardly a rank has children in both", "[planner][double_tree]") {
  const int ranks = GENERATE(range(2, 17));
  const Schedule schedule = double_tree_all_reduce(natural(ranks));
  std::vector<unsigned> parent_in(static_cast<std::size_t>(ranks), 0);
  for (const auto& round : schedule.rounds)
    for (const Transfer& transfer : round)
      if (transfer.action == Action::copy) parent_in[static_cast<std::size_t>(transfer.from)] |= 1u << transfer.chunk;
  CAPTURE(ranks);
  CHECK(std::count(parent_in.begin(), parent_in.end(), 3u) <= 2);
  CHECK(cost_of(schedule, uniform_fabric(ranks, 1000), Limits(uniform_fabric(ranks, 1000))).steady_us_per_byte < 2.51 / 1000);
}
