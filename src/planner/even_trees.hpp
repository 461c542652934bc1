#pragma once

#include <vector>

#include "planner/limits.hpp"
#include "planner/tree_pair.hpp"

namespace collectives {

/// So many pairs of trees, each down the tree that it goes up, that carry `mb_per_s` each, no limit carrying more than it can. None if
/// they are not found: they are, if there are any, where every two ranks have limits of their own.
std::vector<TreePair> even_trees(const Limits& limits, int count, double mb_per_s);

}  // namespace collectives
