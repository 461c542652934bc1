#pragma once

#include <collectives/plan.hpp>
#include <collectives/topology.hpp>
#include <string>
#include <vector>

#include "cli/drawing.hpp"

namespace cli {

/// A request with its answer.
struct PlannedCall {
  std::string machine;       ///< its name
  std::vector<int> devices;  ///< rank r is on GPU devices[r]
  collectives::PlanRequest request;
  collectives::PlanReport report;
};

/// What was chosen, how near it is to the bound, and every candidate.
std::string plan_text(const PlannedCall& call);
/// Who sends what when.
std::string schedule_text(const PlannedCall& call);
/// All of it for programs, the schedule only if it is wanted.
std::string plan_json(const PlannedCall& call, bool with_schedule);

/// What the plan moves, each way once: a colour a channel, or one for all where channels are too many to tell apart.
std::vector<Arrow> arrows_of(const PlannedCall& call);

}  // namespace cli
