#include "planner/planner.hpp"

#include <algorithm>
#include <cmath>
#include <collectives/communicator.hpp>
#include <limits>
#include <string>

#include "base/require.hpp"
#include "planner/cost.hpp"
#include "planner/repertoire.hpp"
#include "planner/shape.hpp"
#include "planner/verify.hpp"

namespace collectives {
namespace {

AlgorithmChoice normalised(AlgorithmChoice choice) {
  if (choice.algorithm != Algorithm::kary_tree) choice.arity = 2;
  return choice;
}

void require_sound(const Fabric& fabric) {
  require(fabric.ranks >= 2 && fabric.ranks <= max_ranks, [&] { return "a plan has 2 to 16 ranks, not " + std::to_string(fabric.ranks); });
  require(fabric.links.size() == static_cast<std::size_t>(fabric.ranks * fabric.ranks),
          "a fabric has a link for each ordered pair of ranks");
}

void require_sound(const PlannerOptions& options) {
  if (!options.forced) return;
  const AlgorithmChoice choice = *options.forced;
  require(static_cast<int>(choice.algorithm) < algorithm_count, "the forced algorithm does not exist");
  require(choice.arity >= 1 && choice.arity < max_ranks, [&] { return "a tree's arity is 1 to 15, not " + std::to_string(choice.arity); });
  require(!options.invariant || is_direct(choice.algorithm),
          [&] { return to_string(choice) + " is forced, but invariant results allow one_shot and two_shot only"; });
}

// One tile more than there are stages reuses slots within a call and over calls. In place and sentinel are each the stricter half: the one
// for inputs read late, the other for what only headers order.
void require_verified(const Routine& routine) {
  for (const bool strict : {false, true}) {
    VerifyOptions options;
    options.stages = routine.programs[0].min_stages;
    options.tiles = options.stages + 1;
    options.in_place = strict;
    options.rank_order = is_direct(routine.choice.algorithm);
    options.wire = strict ? Wire::sentinel : Wire::flagged;
    const std::string fault = verify(routine.programs, options);
    require(
        fault.empty(), [&] { return to_string(routine.choice) + " does not verify: " + fault; }, ErrorCode::internal);
  }
}

}  // namespace

Routine make_routine(AlgorithmChoice choice, Schedule schedule, const Fabric& fabric) {
  Routine routine{.choice = choice, .schedule = std::move(schedule), .programs = {}};
  routine.programs = lower(routine.schedule);
  require_verified(routine);
  const Cost cost = cost_of(routine.schedule, fabric);
  routine.fixed_us = cost.fixed_us;
  routine.us_per_byte = cost.us_per_byte;
  routine.sent_share = cost.sent_share;
  return routine;
}

Planner::Planner(Planner&&) noexcept = default;
Planner& Planner::operator=(Planner&&) noexcept = default;
Planner::~Planner() = default;

Planner::Planner(Fabric fabric, PlannerOptions options) : fabric_(std::move(fabric)), options_(options) {
  require_sound(fabric_);
  require_sound(options_);
  std::vector<AlgorithmChoice> choices = {{Algorithm::one_shot},     {Algorithm::two_shot},     {Algorithm::ring},
                                          {Algorithm::binary_tree},  {Algorithm::kary_tree, 3}, {Algorithm::kary_tree, 4},
                                          {Algorithm::balanced_tree}};
  if (options_.forced) {
    options_.forced = normalised(*options_.forced);
    if (std::find(choices.begin(), choices.end(), *options_.forced) == choices.end()) choices.push_back(*options_.forced);
  }
  for (const AlgorithmChoice choice : choices) routines_.push_back(make_routine(choice, build_schedule(choice, fabric_.ranks), fabric_));
  others_ = std::make_unique<Repertoire>(fabric_, options_);
}

bool Planner::allows(AlgorithmChoice choice) const {
  if (options_.forced) return choice == *options_.forced;
  return !options_.invariant || is_direct(choice.algorithm);
}

const Routine& Planner::routine(AlgorithmChoice choice) const {
  const auto found = std::find_if(routines_.begin(), routines_.end(), [&](const Routine& r) { return r.choice == normalised(choice); });
  require(found != routines_.end(), [&] { return to_string(choice) + " was not built: force it to have it"; });
  return *found;
}

const Routine& Planner::select(std::size_t bytes) const {
  const Routine* best = nullptr;
  // Whole nanoseconds, so that schedules that cost the same tie, and the first of them is taken.
  double best_ns = std::numeric_limits<double>::infinity();
  for (const Routine& routine : routines_) {
    const double ns = std::round(routine.predicted_us(bytes) * 1e3);
    if (!allows(routine.choice) || ns >= best_ns) continue;
    best = &routine;
    best_ns = ns;
  }
  ensure(best != nullptr, "no algorithm is allowed");
  return *best;
}

Plan Planner::plan(const PlanRequest& request) const {
  if (request.collective != Collective::all_reduce) return others_->plan(request);
  Plan plan = all_reduce(request.count, request.type, request.op);
  if (request.carried && plan.direct) {
    plan = {.choice = plan.choice, .bytes = plan.bytes, .predicted_us = plan.predicted_us};
    shape_plan(plan, routine(plan.choice), fabric_, options_, {request.type, request.op, true});
  }
  return plan;
}

PlanReport Planner::explain(const PlanRequest& request) const {
  if (request.collective != Collective::all_reduce) return others_->explain(request);
  return explain(request.count, request.type, request.op);
}

const Program& Planner::program(const PlanRequest& request, const Plan& plan, int rank) const {
  const bool reduces_all = request.collective == Collective::all_reduce;
  const Routine& found = reduces_all ? routine(plan.choice) : others_->routine(request.collective, plan.choice, request.root);
  return found.programs.at(static_cast<std::size_t>(rank));
}

Plan Planner::all_reduce(std::size_t count, DataType type, ReduceOp op) const {
  require(is_valid(type) && is_valid(op), "expected a data type and a reduction of this library");
  require(count <= std::numeric_limits<std::size_t>::max() / size_of(type), "the message is larger than any memory");
  const std::size_t bytes = count * size_of(type);
  const Routine& routine = select(bytes);
  Plan plan;
  plan.choice = routine.choice;
  plan.bytes = bytes;
  plan.predicted_us = routine.predicted_us(bytes);
  shape_plan(plan, routine, fabric_, options_, {type, op});
  return plan;
}

}  // namespace collectives
