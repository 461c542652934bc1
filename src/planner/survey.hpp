#pragma once

#include <vector>

#include "planner/limits.hpp"
#include "planner/packing.hpp"
#include "planner/schedule.hpp"

namespace collectives {

/// What there is to know of a fabric before a schedule is made for it. All that is searched for is searched for among the ranks in
/// their standard order, so that it does not depend on how they are numbered.
struct Survey {
  Fabric fabric;
  Limits limits;
  Limits offering_limits;  ///< over flags; the same where nothing passes host memory
  std::vector<int> order;                 ///< the standard one, see standard_order.hpp
  std::vector<int> ring;                  ///< the best order for a ring
  std::vector<std::vector<int>> islands;  ///< of ranks that reach each other directly, by their places in `order`
  Packing packing;
  double bound_mb_per_s = 0;  ///< no all-reduce along trees is faster: the lesser of what cuts and packed trees prove
  /// The same where values are offered. Cuts hold there too: what a side learns through host memory was written and read there, once at least.
  /// Of trees, those that go up carry a value of every rank but one, so nobody else writes it for them; in those that go down the root writes, and
  /// who passes on what it has read writes anew.
  double offering_bound_mb_per_s = 0;

  const Limits& limits_over(Wire wire) const { return wire == Wire::flagged ? offering_limits : limits; }
  double bound_over(Wire wire) const { return wire == Wire::flagged ? offering_bound_mb_per_s : bound_mb_per_s; }
};

/// The same on every rank: a pure function, in tens of milliseconds for 16 ranks.
Survey survey_of(const Fabric& fabric);

/// The same ranks where what is read over links goes through host memory instead, with bounds of that; all that was searched for is as it was.
Survey survey_through_host(Survey survey);

/// The schedule of an algorithm for the surveyed fabric, whose ranks stand in rings and trees in the order that costs least.
Schedule build_schedule(AlgorithmChoice choice, const Survey& survey);
/// The same of any collective. Throws Error(invalid_argument) for an algorithm that the collective does not have.
Schedule build_schedule(Collective collective, AlgorithmChoice choice, const Survey& survey, int root);

}  // namespace collectives
