#pragma once

#include <vector>

#include "planner/limits.hpp"
#include "planner/tree_pair.hpp"

namespace collectives {

/// How much pairs of trees can carry together, and how much no pairs can.
struct TreeBound {
  std::vector<TreePair> trees;  ///< what carries most, of the pairs that were tried, with their images where ranks are interchangeable
  /// What all limits hold at some prices, over the least that a pair of trees costs at these: a proof, whatever the trees.
  double bound_mb_per_s = 0;
};

/// Both agree within half a percent, unless there are more than nine ranks and many limits, no two of them alike: then what was found in
/// a fixed amount of work, of some tens of milliseconds.
TreeBound bound_trees(const Limits& limits);

/// What a pair of trees takes work to find, in multiplications of one to two nanoseconds: a measure of time that is the same on all
/// ranks.
constexpr double tree_work(int ranks) { return 2.0 * ranks * ranks * ranks; }

/// So many that not every root's trees can be looked at every time.
constexpr bool are_many(int ranks) { return ranks > 9; }

}  // namespace collectives
