#pragma once

#include <map>
#include <mutex>
#include <tuple>

#include "planner/planner.hpp"

namespace collectives {

/// The routines of every collective but the all-reduce, built when they are first asked for: there is one for each root, and
/// most are never wanted. For any thread.
class Repertoire {
 public:
  Repertoire(const Survey& survey, const PlannerOptions& options) : survey_(survey), options_(options) {}

  Plan plan(const PlanRequest& request) const;
  PlanReport explain(const PlanRequest& request) const;
  /// Every plan that the options allow, as the model alone predicts them.
  std::vector<Plan> candidates(const PlanRequest& request) const;
  /// Before anybody else plans by this.
  void learn(const Timings& timings) { options_.timings = timings; }
  /// Lives as long as this.
  const Routine& routine(Collective collective, AlgorithmChoice choice, int root) const;

 private:
  using Key = std::tuple<Collective, Algorithm, int, int>;

  std::vector<AlgorithmChoice> built(Collective collective) const;
  std::vector<AlgorithmChoice> allowed(Collective collective) const;
  PlannerOptions options_for(Collective collective) const;
  std::optional<Plan> model_by(AlgorithmChoice choice, const PlanRequest& request) const;
  std::optional<Plan> plan_by(AlgorithmChoice choice, const PlanRequest& request) const;

  const Survey survey_;
  PlannerOptions options_;
  mutable std::mutex mutex_;
  mutable std::map<Key, Routine> routines_;
};

}  // namespace collectives
