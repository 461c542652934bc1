#pragma once

#include <collectives/tune.hpp>
#include <functional>
#include <vector>

#include "planner/planner.hpp"

namespace collectives {

/// One call of a kind at one size, and what may do it.
struct Rehearsal {
  PlanRequest request;
  CallKind kind;
  std::vector<Plan> candidates;            ///< as the model predicts them
  std::vector<std::uint64_t> measured_ns;  ///< of each; 0: not yet
};

/// What the options ask for: a call for each size and for each way in which types go, smallest size first.
std::vector<Rehearsal> rehearsals_of(const Planner& planner, const TuneOptions& options);

/// How much longer than the best a candidate may seem to take and still be measured.
inline constexpr double worth_measuring = 1.5;

/// Measures what may be the fastest by all that is known so far, until nothing is left that may be and was not measured at that size. A model
/// that expects too little of everything is so put right by those that it ranked behind. `measure` says what the slowest rank takes in ns, or 0 to
/// stop. True if nothing stopped it.
bool search(std::vector<Rehearsal>& rehearsals, Timings& timings, const std::function<std::uint64_t(const Rehearsal&, const Plan&)>& measure);

}  // namespace collectives
