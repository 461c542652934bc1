#pragma once

#include <vector>

namespace collectives {

/// What stands for a root's parent.
inline constexpr int no_parent = -1;

/// A tree up which a share of the message is reduced, and one down which its total is spread, with one root.
struct TreePair {
  std::vector<int> up;    ///< to whom each rank sends its partial result, `no_parent` for the root
  std::vector<int> down;  ///< from whom each rank has the total, `no_parent` for the root
  double mb_per_s = 1;    ///< how much of the message passes through it, beside the others
};

}  // namespace collectives
