#pragma once

#include <array>
#include <vector>

#include "planner/arborescence.hpp"
#include "planner/limits.hpp"
#include "planner/tree_pair.hpp"

namespace collectives {

/// What one unit through each limit costs, in any currency.
using Prices = std::vector<double>;

/// What a pair of trees asks of each limit, in units of what passes through it. If `strained`, with what fanning out costs, and with all that ranks
/// below the root write to offer what they pass on: without it they may pass it on as they read it.
std::vector<double> demand_of(const TreePair& pair, const Limits& limits, bool strained);

/// The cheapest trees at given prices.
class TreePricing {
 public:
  TreePricing(const Limits& limits, const Prices& prices);

  TreePair cheapest(int root) const;
  /// The roots of the cheapest tree up and of the cheapest tree down, at one of which the cheapest pair most often is, and what these
  /// two trees cost: no pair costs less.
  struct Apart {
    std::array<int, 2> roots;
    double cost;
  };
  Apart cheapest_apart() const;
  /// The same trees with children moved to others, where that costs at most `dearer` times as much, so that a rank sends a total to
  /// two of them if it can: many stores at once through a CPU's root hinder each other.
  TreePair thinned(TreePair pair, double dearer) const;
  double cost_of(const TreePair& pair) const;

 private:
  double cost_of_edges(const TreePair& pair) const;

  Weights down_;
  Weights up_;  ///< the same edges, turned round
  Prices writing_;  ///< by rank, what it takes at least to offer anything
};

}  // namespace collectives
