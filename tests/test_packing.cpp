#include "planner/packing.hpp"

#include <numeric>
#include <random>

#include "machines.hpp"
#include "planner/bound.hpp"
#include "planner/cost.hpp"
#include "planner/even_trees.hpp"
#include "planner/linear.hpp"
#include "planner/tree_pricing.hpp"
#include "planner/tree_program.hpp"
#include "planner/verify.hpp"
#include "planner_cases.hpp"
#include "test.hpp"

using namespace collectives;

namespace {

Weights random_weights(int nodes, std::mt19937& random) {
  Weights weights{nodes, {}};
  for (double& weight : weights.weight) weight = 1 + random() % 20;
  return weights;
}

bool is_tree(const std::vector<int>& parent, int root) {
  for (int node = 0; node < static_cast<int>(parent.size()); ++node) {
    int up = node;
    for (std::size_t steps = 0; up != root; ++steps) {
      up = parent[static_cast<std::size_t>(up)];
      if (steps > parent.size() || up < 0) return false;
    }
  }
  return parent[static_cast<std::size_t>(root)] == -1;
}

double weight_of(const std::vector<int>& parent, const Weights& weights) {
  double sum = 0;
  for (int node = 0; node < weights.nodes; ++node)
    if (parent[static_cast<std::size_t>(node)] >= 0) sum += weights(parent[static_cast<std::size_t>(node)], node);
  return sum;
}

/// Over all ways to give every node a parent.
double least_tree(const Weights& weights, int root) {
  std::vector<int> parent(static_cast<std::size_t>(weights.nodes), 0);
  double least = 1e300;
  const auto choose = [&](auto&& self, int node) -> void {
    if (node == weights.nodes) {
      if (is_tree(parent, root)) least = std::min(least, weight_of(parent, weights));
      return;
    }
    for (int from = node == root ? -1 : 0; from < (node == root ? 0 : weights.nodes); ++from) {
      parent[static_cast<std::size_t>(node)] = from;
      self(self, node + 1);
    }
  };
  choose(choose, 0);
  return least;
}

Fabric random_fabric(std::mt19937& random) {
  Fabric fabric = uniform_fabric(2 + static_cast<int>(random() % 7));
  for (Resource& resource : fabric.resources) resource.mb_per_s = 1000 + random() % 50'000;
  for (FabricLink& link : fabric.links) link.mb_per_s = 100 + random() % 40'000;
  // Something that many ways share.
  fabric.resources.push_back({ResourceKind::host_memory, 0, 1, 1000 + static_cast<std::uint32_t>(random() % 50'000)});
  for (FabricLink& link : fabric.links)
    if (!link.route.empty() && random() % 3 == 0) link.route.push_back(static_cast<std::uint16_t>(fabric.resources.size() - 1));
  return fabric;
}

Fabric whole_machine(const char* name) {
  const Machine machine = test_machine(name);
  std::vector<int> devices(machine.gpus().size());
  std::iota(devices.begin(), devices.end(), 0);
  return fabric_of(machine, devices);
}

}  // namespace

TEST_CASE("the cheapest tree from a root is the cheapest of all trees", "[planner][packing]") {
  const auto seed = GENERATE(take(60, random(0u, 1u << 30)));
  std::mt19937 random(seed);
  const int nodes = 2 + static_cast<int>(random() % 5), root = static_cast<int>(random() % static_cast<unsigned>(nodes));
  const Weights weights = random_weights(nodes, random);
  CAPTURE(seed, nodes, root);
  const auto tree = cheapest_arborescence(weights, root);
  REQUIRE(is_tree(tree, root));
  CHECK(weight_of(tree, weights) == least_tree(weights, root));
}

TEST_CASE("where all edges cost the same, the cheapest tree is the heap from its root on", "[planner][packing]") {
  Weights same{7, {}};
  same.weight.fill(1.0);
  CHECK(cheapest_arborescence(same, 0) == std::vector<int>{-1, 0, 0, 1, 1, 2, 2});
  CHECK(cheapest_arborescence(same, 5) == std::vector<int>{5, 6, 6, 0, 0, -1, 5});
}

TEST_CASE("a column program finds the best amounts, and its prices prove them", "[planner][packing]") {
  // Three columns on two rows: the third takes half of both, and beats the other two together.
  ColumnProgram program(2);
  program.add(std::vector{1.0, 0.5});
  program.add(std::vector{0.25, 1.0});
  program.solve(1e6);
  CHECK(program.amounts()[0] == Approx(6.0 / 7).epsilon(1e-5));
  CHECK(program.amounts()[1] == Approx(4.0 / 7).epsilon(1e-5));
  program.add(std::vector{0.5, 0.5});
  program.solve(1e6);
  CHECK(program.amounts()[2] == Approx(2).epsilon(1e-5));
  CHECK(program.amounts()[0] == Approx(0).margin(1e-5));
  const auto prices = program.prices();
  CHECK(prices[0] + prices[1] == Approx(2).epsilon(1e-5));
  for (const auto& column : {std::vector{1.0, 0.5}, {0.25, 1.0}, {0.5, 0.5}}) CHECK(prices[0] * column[0] + prices[1] * column[1] > 1 - 1e-9);
}

TEST_CASE("no packing goes beyond a limit, its bound, or a cut", "[planner][packing]") {
  const auto seed = GENERATE(take(40, random(0u, 1u << 30)));
  std::mt19937 random(seed);
  const Fabric fabric = random_fabric(random);
  const Limits limits(fabric);
  const Packing packing = pack_trees(limits, 12);
  CAPTURE(seed, fabric.ranks);
  REQUIRE_FALSE(packing.trees.empty());
  CHECK(packing.trees.size() <= 12);
  std::vector<double> load(static_cast<std::size_t>(limits.count()), 0.0);
  for (const TreePair& pair : packing.trees) {
    const auto demand = demand_of(pair, limits, true);
    for (std::size_t i = 0; i < load.size(); ++i) load[i] += pair.mb_per_s * demand[i];
  }
  for (int i = 0; i < limits.count(); ++i) CHECK(load[static_cast<std::size_t>(i)] < limits[i].mb_per_s * (1 + 1e-6));
  CHECK(packing.mb_per_s <= packing.bound_mb_per_s * (1 + 1e-6));
  CHECK(packing.mb_per_s >= 0.95 * packing.bound_mb_per_s);
  CHECK(packing.bound_mb_per_s <= static_cast<double>(all_reduce_cut(limits).mb_per_s) * (1 + 1e-2));
  // What the simulation says of the schedule, whose weights are whole numbers.
  const Cost cost = cost_of(tree_pairs_all_reduce(packing.trees), fabric, limits);
  CHECK(cost.steady_us_per_byte * packing.bound_mb_per_s > 1 - 1e-6);
  CHECK(cost.steady_us_per_byte * packing.mb_per_s < 1.01);
}

namespace {

/// Ranks that have links of their own to each other, `links(a, b)` of 10 GB/s.
template <typename Links>
Fabric linked(int ranks, Links links) {
  Fabric fabric = uniform_fabric(ranks);
  fabric.resources.clear();
  for (int from = 0; from < ranks; ++from)
    for (int to = 0; to < ranks; ++to) {
      FabricLink& link = fabric.links[fabric.index(from, to)];
      link.route.clear();
      link.mb_per_s = static_cast<std::uint32_t>(from == to ? 0 : std::max(1, 10'000 * links(from, to)));
    }
  return fabric;
}

bool overload(const std::vector<TreePair>& trees, const Limits& limits) {
  std::vector<double> load(static_cast<std::size_t>(limits.count()), 0.0);
  for (const TreePair& pair : trees) {
    const auto demand = demand_of(pair, limits, false);
    for (std::size_t i = 0; i < load.size(); ++i) load[i] += pair.mb_per_s * demand[i];
  }
  for (int i = 0; i < limits.count(); ++i)
    if (load[static_cast<std::size_t>(i)] > limits[i].mb_per_s * (1 + 1e-6)) return true;
  return false;
}

}  // namespace

TEST_CASE("where values are offered, no pair of trees costs less than what prices prove", "[planner][packing]") {
  const auto seed = GENERATE(take(20, random(0u, 1u << 30)));
  std::mt19937 random(seed);
  // Two memories, ranks of which some reach each other.
  Fabric fabric = fabric_of(test_machine("pcie_no_peers_8x.json"), std::vector<int>{0, 4, 1, 5, 2});
  for (int from = 0; from < 5; ++from)
    for (int to = 0; to < 5; ++to)
      if (from != to && random() % 8 == 0) fabric.links[fabric.index(from, to)].direct = fabric.links[fabric.index(to, from)].direct = true;
  const Limits limits(fabric, Staging::once);
  Prices prices;
  for (int i = 0; i < limits.count(); ++i) prices.push_back(static_cast<double>(random() % 100));
  const TreePricing pricing(limits, prices);
  const auto cost = [&](const TreePair& pair) {
    const auto demand = demand_of(pair, limits, false);
    return std::inner_product(demand.begin(), demand.end(), prices.begin(), 0.0);
  };
  CAPTURE(seed);
  for (int root = 0; root < 5; ++root) {
    const TreePair cheapest = pricing.cheapest(root), few = pricing.cheapest_of_few_writers(root);
    const double proved = pricing.least_cost(cheapest, few);
    CHECK(is_tree(few.down, root));
    CHECK(proved >= pricing.cost_of(cheapest) - 1e-9);
    // Every tree down there is.
    double least = 1e300;
    TreePair pair{.up = cheapest.up, .down = std::vector<int>(5, root)};
    for (int code = 0; code < 5 * 5 * 5 * 5; ++code) {
      int rest = code;
      for (int rank = 0; rank < 5; ++rank) {
        pair.down[static_cast<std::size_t>(rank)] = rank == root ? -1 : rest % 5;
        if (rank != root) rest /= 5;
      }
      if (is_tree(pair.down, root)) least = std::min(least, cost(pair));
    }
    CHECK(proved <= least + 1e-9);
    CHECK(cost(few) >= least - 1e-9);
  }
}

TEST_CASE("ranks that are all linked once have half as many trees as there are ranks, and no more", "[planner][packing]") {
  const int ranks = GENERATE(range(2, 17));
  const Limits limits(linked(ranks, [](int, int) { return 1; }));
  const auto trees = even_trees(limits, ranks / 2, 10'000);
  CAPTURE(ranks);
  REQUIRE(static_cast<int>(trees.size()) == ranks / 2);
  for (const TreePair& pair : trees) {
    const auto root = std::find(pair.up.begin(), pair.up.end(), -1) - pair.up.begin();
    CHECK(is_tree(pair.up, static_cast<int>(root)));
    CHECK(pair.down == pair.up);
  }
  CHECK_FALSE(overload(trees, limits));
  CHECK(even_trees(limits, ranks / 2 + 1, 10'000).empty());
  CHECK(static_cast<int>(even_trees(limits, ranks / 2 * 3, 3'333).size()) == ranks / 2 * 3);
}

TEST_CASE("trees of one weight carry no more through what ways share than that holds", "[planner][packing]") {
  const auto seed = GENERATE(take(60, random(0u, 1u << 30)));
  std::mt19937 random(seed);
  const Limits limits(random_fabric(random));
  const double bound = bound_trees(limits).bound_mb_per_s;
  for (int count = 1; count <= 6; ++count)
    for (const double part : {0.2, 0.4, 0.7, 1.0}) {
      const auto trees = even_trees(limits, count, part * bound / count);
      CAPTURE(seed, limits.ranks(), count, part);
      CHECK((trees.empty() || static_cast<int>(trees.size()) == count));
      CHECK_FALSE(overload(trees, limits));
    }
}

TEST_CASE("links that trees of one weight fill are packed to the last", "[planner][packing]") {
  // Corners of a cube of four dimensions, with four links along the first.
  const auto links = [](int a, int b) { return (a ^ b) == 1 ? 4 : (a ^ b) == 2 || (a ^ b) == 4 || (a ^ b) == 8 ? 1 : 0; };
  const Packing packing = pack_trees(Limits(linked(16, links)), 12);
  CHECK(packing.trees.size() <= 12);
  CHECK(packing.mb_per_s > 0.955 * packing.bound_mb_per_s);
}

TEST_CASE("where links hold no weight a whole number of times, trees of one weight and a few others come near", "[planner][packing]") {
  const auto [slot_gb_per_s, least] = GENERATE(table<double, double>({{8, 0.94}, {10, 0.95}, {20, 0.93}, {26, 0.91}, {45, 0.92}}));
  Machine machine = test_machine("narrow_links_16x.json");
  for (Link& link : machine.links)
    if (link.kind == LinkKind::pcie) link.gb_per_s *= slot_gb_per_s / 13.1;
  std::vector<int> devices(16);
  std::iota(devices.begin(), devices.end(), 0);
  const Packing packing = pack_trees(Limits(fabric_of(machine, devices)), 12);
  CAPTURE(slot_gb_per_s, packing.mb_per_s, packing.bound_mb_per_s);
  CHECK(packing.trees.size() <= 12);
  CHECK(packing.mb_per_s > least * packing.bound_mb_per_s);
}

TEST_CASE("the bound holds for every schedule there is", "[planner][packing]") {
  const auto seed = GENERATE(take(10, random(0u, 1u << 30)));
  std::mt19937 random(seed);
  const Fabric fabric = random_fabric(random);
  const Limits limits(fabric);
  const Packing packing = pack_trees(limits, 12);
  for (const AlgorithmChoice choice : every_algorithm()) {
    CAPTURE(seed, to_string(choice));
    CHECK(cost_of(build_schedule(choice, fabric.ranks), fabric, limits).load_us_per_byte * packing.bound_mb_per_s > 1 - 1e-6);
  }
}

TEST_CASE("on ports alone the packing reaches what two-shot reaches", "[planner][packing]") {
  const int ranks = GENERATE(2, 3, 4, 8, 16);
  const Packing packing = pack_trees(Limits(uniform_fabric(ranks, 100'000)), 12);
  CAPTURE(ranks);
  CHECK(packing.bound_mb_per_s == Approx(100'000.0 * ranks / (2 * (ranks - 1))).epsilon(0.01));
  CHECK(packing.mb_per_s > 0.95 * packing.bound_mb_per_s);
}

TEST_CASE("fewer channels carry less, and never more than are asked for", "[planner][packing]") {
  const Limits limits(whole_machine("cube_mesh_8x.json"));
  double before = 0;
  for (const int most : {1, 2, 4, 12}) {
    const Packing packing = pack_trees(limits, most);
    CAPTURE(most, packing.mb_per_s);
    CHECK(packing.trees.size() <= static_cast<std::size_t>(most));
    CHECK(packing.mb_per_s >= before);
    before = packing.mb_per_s;
  }
  CHECK(before > 1.3 * pack_trees(limits, 1).mb_per_s);
}

TEST_CASE("packed trees of every machine file verify as programs", "[planner][packing]") {
  for (const char* name : machine_files) {
    CAPTURE(name);
    const Packing packing = pack_trees(Limits(whole_machine(name)), 12);
    const auto programs = lower(tree_pairs_all_reduce(packing.trees));
    SymbolicRun options;
    options.stages = programs[0].min_stages;
    options.tiles = options.stages + 1;
    CHECK(verify(programs, options) == "");
  }
}
