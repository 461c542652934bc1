#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "comm/prove.hpp"
#include "planner/planner.hpp"

namespace collectives {

/// The plans of a communicator: those that it began with, and those without the links that were taken out since or by what was measured since.
/// For any thread. None is ever thrown away: graphs and calls under way go by them.
class PlanShelf {
 public:
  PlanShelf(std::unique_ptr<const Planner> first, PlannerOptions options) : first_(std::move(first)), options_(options) {}

  const Planner& first() const { return *first_; }
  /// Without the links of these pairs, each named both ways. The same on every rank. Lives as long as this. Throws what Planner throws.
  const Planner& without(const RankMasks& apart);
  /// The same by these timings, which were taken without those links.
  const Planner& tuned(const RankMasks& apart, const Timings& timings);

 private:
  struct Later {
    RankMasks apart;
    std::unique_ptr<const Planner> planner;
  };

  const std::unique_ptr<const Planner> first_;
  const PlannerOptions options_;
  std::mutex mutex_;
  std::vector<Later> later_;
};

}  // namespace collectives
