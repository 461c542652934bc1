#pragma once

#include <array>
#include <collectives/communicator.hpp>
#include <vector>

namespace collectives {

/// Edge weights of a complete directed graph of up to 17 nodes, one more than there are ranks, all finite.
struct Weights {
  int nodes = 0;
  std::array<double, (max_ranks + 1) * (max_ranks + 1)> weight;  ///< [from * nodes + to]

  double operator()(int from, int to) const { return weight[static_cast<std::size_t>(from * nodes + to)]; }
  double& operator()(int from, int to) { return weight[static_cast<std::size_t>(from * nodes + to)]; }
};

/// The cheapest tree that leads from `root` to every node (Chu-Liu and Edmonds, O(nodes^3)): the parent of each node, -1 for the
/// root. Where all edges cost the same it is the heap-shaped binary tree of the nodes from the root on.
std::vector<int> cheapest_arborescence(const Weights& weights, int root);
/// The cheapest of all such trees, whatever its root.
std::vector<int> cheapest_arborescence(const Weights& weights);

}  // namespace collectives
