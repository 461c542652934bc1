#pragma once

#include <vector>

#include "planner/limits.hpp"
#include "planner/tree_pair.hpp"

namespace collectives {

/// Pairs of trees that all work at once, no limit carrying more than it can.
struct Packing {
  std::vector<TreePair> trees;  ///< the heaviest first
  double mb_per_s = 0;          ///< of all-reduce: messages times their length over time
  double bound_mb_per_s = 0;    ///< no pairs of trees, however many, carry more
};

/// At most `most_trees` of them, fewer where they come as near to the bound or where a rank's program would be too long.
Packing pack_trees(const Limits& limits, int most_trees);

}  // namespace collectives
