#pragma once

#include <cstdint>
#include <functional>

#include "planner/limits.hpp"

namespace collectives {

/// A set of ranks and what can leave it: no more than `mb_per_s` in all, so no collective moves more than that across.
struct Cut {
  std::uint32_t inside = 0;  ///< a bit a rank
  int ranks = 0;             ///< how many are inside
  std::uint64_t mb_per_s = 0;
  bool operator==(const Cut&) const = default;
};

/// The cut with the least bandwidth for each rank inside. In an all-gather of shards of S bytes the shards inside all have to
/// leave, so it takes at least S * ranks / mb_per_s. Exact: Newton's iteration on whole numbers. Where ranks have ports and links of
/// their own this is also enough (ForestColl); with shared resources it stays a bound.
Cut all_gather_cut(const Limits& limits);
/// The same into a set: a reduce-scatter takes at least S * ranks / mb_per_s for results of S bytes.
Cut reduce_scatter_cut(const Limits& limits);

/// The cut that the least can leave, of all that split the ranks: an all-reduce of M bytes takes at least M / mb_per_s, since each
/// side must learn something as long as the message from the other.
Cut all_reduce_cut(const Limits& limits);

/// What no collective takes less than, in us, of which so many bytes have to leave each set of ranks, a bit each. Looks at every rank by itself, at
/// all but that, at those before and behind each resource, such as a switch's uplink, and at the least cut between any two: the least of all if no
/// more has to leave larger sets, as of a broadcast.
double crossing_us(const Limits& limits, const std::function<double(std::uint32_t inside)>& bytes_leaving);

/// How much more than a bound this is. Bounds are found to some digits only: what is beyond them is nothing.
double gap_of(double us, double bound_us);

}  // namespace collectives
