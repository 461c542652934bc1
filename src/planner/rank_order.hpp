#pragma once

#include <span>
#include <vector>

#include "planner/limits.hpp"
#include "planner/schedule.hpp"

namespace collectives {

/// In which order the ranks should stand in a schedule that names positions instead of ranks: that for which a message of 1 MiB is
/// predicted to take least, in the middle of the sizes for which trees compete. Of equal orders the natural one. The first `fixed`
/// positions keep their ranks. Exact where no more than six ranks may move, beyond that the best of two starts, each improved until
/// no exchange of two ranks helps.
std::vector<int> rank_order(const Schedule& positions, const Fabric& fabric, const Limits& limits, int fixed = 0);

/// The schedule with rank order[p] where it names position p.
Schedule placed(Schedule positions, std::span<const int> order);

}  // namespace collectives
