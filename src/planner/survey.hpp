#pragma once

#include <vector>

#include "planner/limits.hpp"
#include "planner/packing.hpp"
#include "planner/schedule.hpp"

namespace collectives {

/// What there is to know of a fabric before a schedule is made for it.
struct Survey {
  Limits limits;
  std::vector<int> ring;                  ///< the best order of the ranks
  std::vector<std::vector<int>> islands;  ///< of ranks that reach each other directly
  Packing packing;
  double bound_mb_per_s = 0;  ///< no all-reduce is faster: the lesser of what cuts and packed trees prove
};

/// The same on every rank: a pure function, in tens of milliseconds for 16 ranks.
Survey survey_of(const Fabric& fabric);

/// The schedule of an algorithm for the surveyed fabric.
Schedule build_schedule(AlgorithmChoice choice, const Survey& survey);

}  // namespace collectives
