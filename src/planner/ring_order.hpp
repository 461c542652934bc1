#pragma once

#include <vector>

#include "planner/limits.hpp"

namespace collectives {

/// In which order the ranks should stand in a ring that carries the same from each to the next: the busiest limit is as little
/// loaded as can be, then all limits together. Rank 0 comes first, and of equal orders the first in the dictionary. Exact for up to 9
/// ranks, beyond that the best of many starts, each improved until no exchange helps.
std::vector<int> ring_order(const Limits& limits);

}  // namespace collectives
