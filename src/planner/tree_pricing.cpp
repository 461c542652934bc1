#include "planner/tree_pricing.hpp"

#include <algorithm>
#include <limits>

#include "base/integers.hpp"

namespace collectives {
namespace {

constexpr int widest = 2;

bool is_below(const std::vector<int>& parent, int node, int above) {
  while (node != no_parent && node != above) node = parent[at(node)];
  return node == above;
}

int depth_of(const std::vector<int>& parent, int node) {
  int depth = 0;
  for (; parent[at(node)] != no_parent; node = parent[at(node)]) ++depth;
  return depth;
}

/// The highest place below `widest` children for a node, where it costs at most `most`; or none.
int better_parent(const Weights& weights, const std::vector<int>& parent, const std::vector<int>& children, int node, double most) {
  int best = no_parent;
  for (int other = 0; other < weights.nodes; ++other) {
    if (children[at(other)] >= widest || is_below(parent, other, node) || weights(other, node) > most) continue;
    if (best == no_parent || depth_of(parent, other) < depth_of(parent, best)) best = other;
  }
  return best;
}

}  // namespace

std::vector<double> demand_of(const TreePair& pair, const Limits& limits, bool strained) {
  std::vector<double> demand(at(limits.count()), 0.0);
  std::vector<int> fan(at(limits.ranks()), 0);
  for (int rank = 0; rank < limits.ranks(); ++rank)
    if (const int above = pair.down[at(rank)]; above != no_parent && limits.through_root(above, rank)) ++fan[at(above)];
  std::vector<bool> offered(at(limits.ranks()), false);
  const auto load = [&](std::span<const int> way, double amount) {
    for (const int limit : way) demand[at(limit)] += amount;
  };
  for (int rank = 0; rank < limits.ranks(); ++rank) {
    if (const int above = pair.up[at(rank)]; above != no_parent) load(limits.on(rank, above), 1);
    const int above = pair.down[at(rank)];
    if (above == no_parent) continue;
    const bool writes = limits.offers(above, rank) && !offered[at(above)];
    if (writes) offered[at(above)] = true;
    load(writes ? limits.on(above, rank) : limits.reading(above, rank), strained && limits.through_root(above, rank) ? fan_out_strain(fan[at(above)]) : 1);
  }
  return demand;
}

TreePricing::TreePricing(const Limits& limits, const Prices& prices)
    : down_{limits.ranks(), {}}, up_{limits.ranks(), {}}, writing_(at(limits.ranks()), std::numeric_limits<double>::infinity()) {
  for (int from = 0; from < limits.ranks(); ++from)
    for (int to = 0; to < limits.ranks(); ++to) {
      for (const int limit : limits.reading(from, to)) down_(from, to) += prices[at(limit)];
      for (const int limit : limits.on(from, to)) up_(to, from) += prices[at(limit)];
      const auto written = limits.on(from, to).first(limits.on(from, to).size() - limits.reading(from, to).size());
      double least = 0;
      for (const int limit : written) least += prices[at(limit)];
      if (from != to) writing_[at(from)] = std::min(writing_[at(from)], least);
    }
  has_writers_ = std::any_of(writing_.begin(), writing_.end(), [](double cost) { return cost > 0; });
}

TreePair TreePricing::cheapest(int root) const {
  return {.up = cheapest_arborescence(up_, root), .down = cheapest_arborescence(down_, root)};
}

TreePair TreePricing::cheapest_of_few_writers(int root) const {
  std::vector<int> best;
  double least = std::numeric_limits<double>::infinity();
  for (int writer = 0; writer < down_.nodes; ++writer) {
    std::vector<int> parent(at(down_.nodes), root);
    parent[at(root)] = no_parent;
    double cost = writer == root ? 0 : writing_[at(writer)];
    for (int rank = 0; rank < down_.nodes; ++rank) {
      if (rank == root) continue;
      if (rank != writer && down_(writer, rank) < down_(root, rank)) parent[at(rank)] = writer;
      cost += down_(parent[at(rank)], rank);
    }
    if (cost >= least) continue;
    least = cost;
    best = std::move(parent);
  }
  return {.up = cheapest_arborescence(up_, root), .down = std::move(best)};
}

double TreePricing::least_cost(const TreePair& cheapest, const TreePair& of_few_writers) const {
  std::vector<bool> writes(writing_.size(), false);
  for (const int parent : of_few_writers.down)
    if (parent != no_parent) writes[at(parent)] = true;
  double few = cost_of_edges(of_few_writers);
  // Any other tree has two writers beside its root.
  const auto root = std::find(cheapest.down.begin(), cheapest.down.end(), no_parent) - cheapest.down.begin();
  double first = std::numeric_limits<double>::infinity(), second = first;
  for (std::size_t rank = 0; rank < writing_.size(); ++rank) {
    if (writes[rank]) few += writing_[rank];
    if (rank == static_cast<std::size_t>(root)) continue;
    second = std::min(second, std::max(first, writing_[rank]));
    first = std::min(first, writing_[rank]);
  }
  return std::min(few, cost_of(cheapest) + first + second);
}

TreePair TreePricing::thinned(TreePair pair, double dearer) const {
  std::vector<int> children(pair.down.size(), 0);
  for (const int parent : pair.down)
    if (parent != no_parent) ++children[at(parent)];
  for (int node = down_.nodes - 1; node >= 0; --node) {
    const int parent = pair.down[at(node)];
    if (parent == no_parent || children[at(parent)] <= widest) continue;
    const int better = better_parent(down_, pair.down, children, node, dearer * down_(parent, node));
    if (better == no_parent) continue;
    pair.down[at(node)] = better;
    --children[at(parent)];
    ++children[at(better)];
  }
  return pair;
}

double TreePricing::cost_of(const TreePair& pair) const {
  const auto root = std::find(pair.down.begin(), pair.down.end(), no_parent) - pair.down.begin();
  return cost_of_edges(pair) + writing_[static_cast<std::size_t>(root)];
}

double TreePricing::cost_of_edges(const TreePair& pair) const {
  double cost = 0;
  for (int rank = 0; rank < up_.nodes; ++rank) {
    if (pair.up[at(rank)] >= 0) cost += up_(pair.up[at(rank)], rank);
    if (pair.down[at(rank)] >= 0) cost += down_(pair.down[at(rank)], rank);
  }
  return cost;
}

TreePricing::Apart TreePricing::cheapest_apart() const {
  const auto up = cheapest_arborescence(up_), down = cheapest_arborescence(down_);
  const auto root_of = [](const std::vector<int>& tree) {
    return static_cast<int>(std::find(tree.begin(), tree.end(), no_parent) - tree.begin());
  };
  return {{root_of(up), root_of(down)}, cost_of_edges({.up = up, .down = down}) + *std::min_element(writing_.begin(), writing_.end())};
}

}  // namespace collectives
