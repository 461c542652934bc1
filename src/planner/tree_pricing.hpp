#pragma once

#include <array>
#include <vector>

#include "planner/arborescence.hpp"
#include "planner/limits.hpp"
#include "planner/tree_pair.hpp"

namespace collectives {

/// What one unit through each limit costs, in any currency.
using Prices = std::vector<double>;

/// What a pair of trees asks of each limit, in units of what passes through it. If `strained`, with what fanning out costs.
std::vector<double> demand_of(const TreePair& pair, const Limits& limits, bool strained);

/// The cheapest trees at given prices.
class TreePricing {
 public:
  TreePricing(const Limits& limits, const Prices& prices);

  /// Of edges alone: who passes on what it has read writes nothing for it.
  TreePair cheapest(int root) const;
  /// Must anybody write what is to be offered?
  bool has_writers() const { return has_writers_; }
  /// The cheapest tree up, and the cheapest down in which only the root and one other rank at most offer anything.
  TreePair cheapest_of_few_writers(int root) const;
  /// What no pair from a root costs less than, of which these two are what the functions above give.
  double least_cost(const TreePair& cheapest, const TreePair& of_few_writers) const;
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
  /// With what the root writes.
  double cost_of(const TreePair& pair) const;

 private:
  double cost_of_edges(const TreePair& pair) const;

  Weights down_;
  Weights up_;  ///< the same edges, turned round
  Prices writing_;  ///< by rank, what it takes at least to offer anything
  bool has_writers_ = false;
};

}  // namespace collectives
