#include "comm/plan_shelf.hpp"

#include <algorithm>

namespace collectives {

const Planner& PlanShelf::without(const RankMasks& apart) { return any(apart) ? tuned(apart, {}) : *first_; }

const Planner& PlanShelf::tuned(const RankMasks& apart, const Timings& timings) {
  const std::lock_guard lock(mutex_);
  const auto found = std::find_if(later_.begin(), later_.end(), [&](const Later& later) { return later.apart == apart && later.planner->options().timings == timings; });
  if (found != later_.end()) return *found->planner;
  Fabric fabric = first_->fabric();
  apply_peer_policy(fabric, [&](int a, int b) { return (apart[static_cast<std::size_t>(a)] >> b & 1u) != 0; });
  PlannerOptions options = options_;
  options.timings = timings;
  // A graph that was captured before may still replay a direct kernel, whose headers order nothing in host memory: a slot there that must be
  // emptied before it is written again would not be safe.
  if (any(apart) && fabric.backend == Backend::cuda && first_->fabric().fully_connected()) options.wire = Wire::flagged;
  return *later_.emplace_back(Later{apart, std::make_unique<const Planner>(std::move(fabric), options)}).planner;
}

}  // namespace collectives
