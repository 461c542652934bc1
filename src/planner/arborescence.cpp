// Every node takes its cheapest incoming edge. Where these close a cycle, the cycle becomes one node, whose incoming edges cost
// what they cost more than the cycle's edge that they would replace, and the smaller problem says where the cycle is entered.
#include "planner/arborescence.hpp"

#include <algorithm>

#include "base/integers.hpp"

namespace collectives {
namespace {

constexpr int none = -1;

// If all cost the same, a node takes its nearest ancestor in the heap-shaped binary tree of the nodes from the root on: that way
// equal edges make trees that are shallow and fan out little.
int cheapest_parent(const Weights& weights, int root, int node) {
  int best = none;
  const auto consider = [&](int from) {
    if (best == none || weights(from, node) < weights(best, node)) best = from;
  };
  const int nodes = weights.nodes;
  for (int place = (node - root + nodes) % nodes; place > 0; place = (place - 1) / 2) consider(((place - 1) / 2 + root) % nodes);
  for (int from = 0; from < nodes; ++from)
    if (from != node) consider(from);
  return best;
}

std::vector<int> cheapest_parents(const Weights& weights, int root) {
  std::vector<int> parent(at(weights.nodes), none);
  for (int node = 0; node < weights.nodes; ++node)
    if (node != root) parent[at(node)] = cheapest_parent(weights, root, node);
  return parent;
}

/// The nodes of a cycle, empty if there is none.
std::vector<int> find_cycle(const std::vector<int>& parent) {
  std::vector<int> seen(parent.size(), none);
  for (int start = 0; at(start) < parent.size(); ++start) {
    int node = start;
    while (node != none && seen[at(node)] == none) {
      seen[at(node)] = start;
      node = parent[at(node)];
    }
    if (node == none || seen[at(node)] != start) continue;
    std::vector<int> cycle{node};
    for (int next = parent[at(node)]; next != node; next = parent[at(next)]) cycle.push_back(next);
    return cycle;
  }
  return {};
}

/// The graph with a cycle as its last node, and which nodes stand behind the others.
struct Contraction {
  Weights weights;
  std::vector<int> original;  ///< of each node but the last
  std::vector<int> enters;    ///< by node: the cycle's node that an edge from it would enter
  std::vector<int> leaves;    ///< by node: the cycle's node that an edge to it would leave
};

Contraction contract(const Weights& weights, const std::vector<int>& parent, const std::vector<int>& cycle) {
  Contraction small;
  small.original.reserve(at(weights.nodes));
  for (int node = 0; node < weights.nodes; ++node)
    if (std::find(cycle.begin(), cycle.end(), node) == cycle.end()) small.original.push_back(node);
  small.enters.reserve(small.original.size());
  small.leaves.reserve(small.original.size());
  const int rest = static_cast<int>(small.original.size());
  small.weights.nodes = rest + 1;
  small.weights(rest, rest) = 0;
  for (int i = 0; i < rest; ++i) {
    const int node = small.original[at(i)];
    for (int j = 0; j < rest; ++j) small.weights(i, j) = weights(node, small.original[at(j)]);
    const auto extra = [&](int inside) { return weights(node, inside) - weights(parent[at(inside)], inside); };
    small.enters.push_back(*std::min_element(cycle.begin(), cycle.end(), [&](int a, int b) { return extra(a) < extra(b); }));
    small.leaves.push_back(
        *std::min_element(cycle.begin(), cycle.end(), [&](int a, int b) { return weights(a, node) < weights(b, node); }));
    small.weights(i, rest) = extra(small.enters.back());
    small.weights(rest, i) = weights(small.leaves.back(), node);
  }
  return small;
}

}  // namespace

std::vector<int> cheapest_arborescence(const Weights& weights, int root) {
  std::vector<int> parent = cheapest_parents(weights, root);
  const std::vector<int> cycle = find_cycle(parent);
  if (cycle.empty()) return parent;
  const Contraction small = contract(weights, parent, cycle);
  const auto place = std::find(small.original.begin(), small.original.end(), root) - small.original.begin();
  const std::vector<int> tree = cheapest_arborescence(small.weights, static_cast<int>(place));
  const int merged = small.weights.nodes - 1;
  for (int i = 0; i < merged; ++i) {
    const int above = tree[at(i)], node = small.original[at(i)];
    parent[at(node)] = above == none ? none : above == merged ? small.leaves[at(i)] : small.original[at(above)];
  }
  const int entered_from = tree[at(merged)];
  parent[at(small.enters[at(entered_from)])] = small.original[at(entered_from)];
  return parent;
}

// From a root beside all nodes, whose edges are so dear that the tree takes one of them alone.
std::vector<int> cheapest_arborescence(const Weights& weights) {
  const int nodes = weights.nodes;
  double dear = 1;
  for (int i = 0; i < nodes * nodes; ++i) dear += weights.weight[at(i)];
  Weights more{nodes + 1, {}};
  for (int from = 0; from <= nodes; ++from)
    for (int to = 0; to <= nodes; ++to) more(from, to) = from < nodes && to < nodes ? weights(from, to) : dear;
  std::vector<int> parent = cheapest_arborescence(more, nodes);
  parent.pop_back();
  std::replace(parent.begin(), parent.end(), nodes, none);
  return parent;
}

}  // namespace collectives
