#pragma once

#include <collectives/plan.hpp>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace collectives {

/// What to measure when ranks are tuned. The same on every rank.
struct TuneOptions {
  /// Some of all_reduce, reduce_scatter, all_gather, broadcast and reduce (of rank 0).
  std::vector<Collective> collectives = {Collective::all_reduce};
  /// Bytes of whole messages, smallest first. Each is tried as bfloat16 and, where types are reduced in other ways, as int32.
  std::vector<std::size_t> sizes = {1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20};
  /// After so long no further measurement begins.
  std::uint32_t budget_ms = 2000;
  /// Keep what was measured in the user's cache, for a month.
  bool keep = true;
};

/// What an algorithm takes there: the slowest rank's median, of host ranks the slowest's least.
struct TunedCandidate {
  AlgorithmChoice choice;
  bool through_host = false;
  double modelled_us = 0;
  double measured_us = 0;  ///< 0: not measured, because the model says that it is much slower than others, or time was up
};

struct TunedSize {
  PlanRequest request;
  Plan before;
  Plan after;
  std::vector<TunedCandidate> candidates;  ///< fastest first, those that were not measured last
};

struct TuneReport {
  std::vector<TunedSize> sizes;
  double took_ms = 0;
  bool complete = false;  ///< all was measured that may be the fastest
  bool kept = false;      ///< in the cache; on rank 0
};

}  // namespace collectives
