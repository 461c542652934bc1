#include "planner/planner.hpp"

#include <fmt/format.h>
#include <algorithm>
#include <cmath>
#include <collectives/communicator.hpp>
#include <limits>
#include <string>
#include <tuple>

#include "base/integers.hpp"
#include "base/require.hpp"
#include "planner/cost.hpp"
#include "planner/rank_order.hpp"
#include "planner/repertoire.hpp"
#include "planner/shape.hpp"
#include "planner/standard_order.hpp"
#include "planner/verify.hpp"

namespace collectives {
namespace {

AlgorithmChoice normalised(AlgorithmChoice choice) {
  if (choice.algorithm != Algorithm::kary_tree) choice.arity = 2;
  return choice;
}

void require_sound(const Fabric& fabric) {
  require(fabric.ranks >= 1 && fabric.ranks <= max_ranks, [&] { return "a plan has 1 to 16 ranks, not " + std::to_string(fabric.ranks); });
  require(fabric.links.size() == static_cast<std::size_t>(fabric.ranks * fabric.ranks),
          "a fabric has a link for each ordered pair of ranks");
}

void require_sound(const PlannerOptions& options) {
  if (!options.forced) return;
  const AlgorithmChoice choice = *options.forced;
  require(static_cast<int>(choice.algorithm) < algorithm_count, "the forced algorithm does not exist");
  require(choice.arity >= 1 && choice.arity < max_ranks, [&] { return "a tree's arity is 1 to 15, not " + std::to_string(choice.arity); });
  require(!options.invariant || is_direct(choice.algorithm),
          [&] { return to_string(choice) + " is forced, but invariant results allow one_shot, two_shot and copy_two_shot only"; });
}

void require_reach(const Fabric& fabric, const PlannerOptions& options) {
  if (!options.forced || options.forced->algorithm != Algorithm::copy_two_shot || fabric.backend == Backend::host || fabric.meets_on_host()) return;
  for (int from = 0; from < fabric.ranks; ++from)
    for (int to = 0; to < fabric.ranks; ++to)
      require(from == to || fabric.link(from, to).direct,
              [&] {
                return "copy_two_shot is forced, but rank " + std::to_string(from) + " does not reach rank " + std::to_string(to) +
                       " directly: copy engines write into the pools of all peers, or meet all of them in host memory";
              },
              ErrorCode::unsupported);
}

// One tile more than there are stages reuses slots within a call and over calls. In place and sentinel are each the stricter half: the one
// for inputs read late, the other for what only headers order.
void require_verified(const Routine& routine, const Fabric& fabric) {
  SymbolicRun options;
  options.stages = routine.programs[0].min_stages;
  options.tiles = options.stages + 1;
  options.rank_order = is_direct(routine.choice.algorithm);
  const auto require_right = [&] {
    const std::string fault = verify(routine.programs_over(options.wire), options);
    require(
        fault.empty(), [&] { return to_string(routine.choice) + " does not verify: " + fault; }, ErrorCode::internal);
  };
  require_right();
  options.in_place = true;
  options.crews = crews_of(routine.programs_over(Wire::flagged), fabric) > 1;
  if (options.crews) require_right();
  options.crews = false;
  if (!routine.programs[0].offers) options.wire = Wire::sentinel;
  require_right();
}

std::vector<AlgorithmChoice> choices_for(const Survey& survey, const std::optional<AlgorithmChoice>& forced) {
  if (survey.limits.ranks() == 1) return algorithms_for_one_rank();
  std::vector<AlgorithmChoice> choices = algorithms_of(Collective::all_reduce);
  const auto islands = static_cast<int>(survey.islands.size());
  if (islands > 1 && islands < survey.limits.ranks()) choices.push_back({Algorithm::island});
  if (forced && std::find(choices.begin(), choices.end(), *forced) == choices.end()) choices.push_back(*forced);
  return choices;
}

/// What is read over a link is offered in any case, what meets in host memory where `flags` tell of it.
SlotPlaces places_on(const Fabric& fabric, bool flags) {
  const std::vector<RankMask> nowhere(static_cast<std::size_t>(fabric.ranks), 0);
  SlotPlaces places{.common = nowhere, .offered = nowhere};
  for (int from = 0; from < fabric.ranks; ++from)
    for (int to = 0; to < fabric.ranks; ++to) {
      const FabricLink& there = fabric.link(from, to);
      if (from == to || (there.direct && fabric.link(to, from).direct)) continue;
      if (!there.pulled) places.common[static_cast<std::size_t>(from)] |= mask_of(to);
      if (there.pulled || flags) places.offered[static_cast<std::size_t>(from)] |= mask_of(to);
    }
  return places;
}

bool is_any(const std::vector<RankMask>& masks) {
  return std::any_of(masks.begin(), masks.end(), [](RankMask mask) { return mask != 0; });
}

/// Reading over a link takes flags, which small messages wait for longer than for host memory over sentinels. Where that takes flags too,
/// it never was the faster: 60 us for 256 KB between two H200, where a ring that reads takes 26.
bool may_go_through_host(const Fabric& fabric, const PlannerOptions& options) {
  return fabric.pulls() && (options.wire ? *options.wire == Wire::sentinel : fabric.backend == Backend::cuda);
}

/// With the ranks in their standard order and a round's transfers in theirs: in what order a block does steps that may come in any depends on names.
Walk walk_in_order(Schedule schedule, const Survey& survey, bool flags) {
  std::vector<int> place(survey.order.size());
  for (std::size_t p = 0; p < place.size(); ++p) place[at(survey.order[p])] = static_cast<int>(p);
  schedule = placed(std::move(schedule), place);
  for (auto& round : schedule.rounds)
    std::stable_sort(round.begin(), round.end(), [](const Transfer& a, const Transfer& b) { return std::tie(a.from, a.to, a.chunk) < std::tie(b.from, b.to, b.chunk); });
  const Fabric standard = reordered(survey.fabric, survey.order);
  return walk_of(lower(schedule, places_on(standard, flags)), standard, Limits(standard));
}

// Whole nanoseconds, so that schedules that cost the same tie, and the first of them is taken.
double weighed_ns(const Plan& plan) {
  return std::round(plan.predicted_us * (is_direct(plan.choice.algorithm) ? 1e3 : 1e3 + 10 * percent_for_direct));
}

/// What copy engines add has not been measured: no plan is compared by it, for they must be forced.
const KernelCosts& kernels_of(const Plan& plan, const Fabric& fabric, Operation operation) {
  const bool moves = operation.form == DirectForm::move || operation.form == DirectForm::broadcast;
  if (plan.roomy) return roomy_kernels;
  if (plan.direct && plan.wire == Wire::escaped && !moves) return reduce_kernels;
  if (plan.direct) return direct_kernels;
  if (plan.crews > 1) return crew_kernels;
  if (fabric.backend == Backend::host) return general_kernels;
  return plan.wire == Wire::flagged ? flagged_walkers : sentinel_walkers;
}

Survey survey_sound(const Fabric& fabric) {
  require_sound(fabric);
  return survey_of(fabric);
}

}  // namespace

Routine make_routine(AlgorithmChoice choice, Schedule schedule, const Survey& survey) {
  const Fabric& fabric = survey.fabric;
  Routine routine{.choice = choice, .schedule = std::move(schedule), .programs = {}, .offering = {}, .cost = {}, .offering_cost = {}};
  const SlotPlaces least = places_on(fabric, false), most = places_on(fabric, true);
  const bool pulls = is_any(least.offered);
  routine.programs = lower(routine.schedule, pulls ? most : least);
  if (!pulls && is_any(most.offered)) routine.offering = lower(routine.schedule, most);
  require_verified(routine, fabric);
  routine.cost = cost_of(routine.schedule, fabric, pulls ? survey.offering_limits : survey.limits);
  routine.cost.walk = walk_in_order(routine.schedule, survey, pulls);
  if (routine.offering.empty()) return routine;
  routine.offering_cost = cost_of(routine.schedule, fabric, survey.offering_limits);
  routine.offering_cost.walk = walk_in_order(routine.schedule, survey, true);
  return routine;
}

std::optional<Plan> plan_routine(const Routine& routine, std::size_t bytes, const Fabric& fabric, const PlannerOptions& options, Operation operation) {
  Plan plan;
  plan.choice = routine.choice;
  plan.bytes = bytes;
  plan.through_host = options.through_host;
  const auto tiles = shape_plan(plan, routine, fabric, options, operation);
  if (!tiles) return {};
  plan.predicted_us = routine.cost_over(plan.wire).predicted_us(static_cast<double>(bytes), static_cast<double>(*tiles), kernels_of(plan, fabric, operation));
  return plan;
}

Operation operation_of(const PlanRequest& request, const PlannerOptions& options) {
  const auto form = [&] {
    const Collective collective = request.collective;
    if (collective == Collective::all_reduce) return request.carried ? DirectForm::none : DirectForm::all_reduce;
    if (!reduces(collective) && options.wire) return DirectForm::none;
    if (collective == Collective::broadcast) return DirectForm::broadcast;
    if (!reduces(collective)) return DirectForm::move;
    // The direct kernels cut a message by packs: every block must begin with one.
    const bool whole = !request.uneven && request.count * size_of(request.type) % 16 == 0;
    return collective == Collective::reduce_scatter && whole ? DirectForm::reduce_scatter : DirectForm::none;
  };
  return {request.type, request.op, form(), request.scaled};
}

CallKind kind_of(Collective collective, Operation operation) {
  const bool sentinel = reduces(collective) && fits_sentinel(operation.type);
  // Floats in other ways than plain sums are not rehearsed: they would have candidates of their own.
  const bool rehearsed = !sentinel || (operation.op == ReduceOp::sum && !operation.scaled);
  return {.collective = collective, .direct = operation.form != DirectForm::none && rehearsed, .sentinel = sentinel};
}

void correct(Plan& plan, CallKind kind, const PlannerOptions& options) {
  const TimedPlan* timed = options.timings.find(kind, plan.choice, plan.through_host);
  if (timed == nullptr) return;
  plan.predicted_us *= timed->correction(plan.bytes);
  plan.measured = true;
}

Planner::Planner(Planner&&) noexcept = default;
Planner& Planner::operator=(Planner&&) noexcept = default;
Planner::~Planner() = default;

Planner::Planner(Fabric fabric, PlannerOptions options) : Planner(survey_sound(fabric), options) {}

Planner::Planner(Survey survey, PlannerOptions options) : survey_(std::move(survey)), fabric_(survey_.fabric), options_(options) {
  require_sound(options_);
  require_reach(fabric_, options_);
  if (fabric_.ranks == 1) options_.forced.reset();
  if (options_.forced) options_.forced = normalised(*options_.forced);
  for (const AlgorithmChoice choice : choices_for(survey_, options_.forced))
    routines_.push_back(make_routine(choice, build_schedule(choice, survey_), survey_));
  others_ = std::make_unique<Repertoire>(survey_, options_);
  if (may_go_through_host(fabric_, options_)) {
    options.through_host = true;
    through_host_.reset(new Planner(survey_through_host(survey_), options));
  }
}

void Planner::learn(const Timings& timings) {
  options_.timings = timings;
  others_->learn(timings);
  if (through_host_) through_host_->learn(timings);
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

std::uint64_t Planner::digest() const {
  std::uint64_t hash = 0xcbf29ce484222325u;
  const auto mix = [&](std::uint64_t value) { hash = (hash ^ value) * 0x100000001b3u; };
  for (const Routine& routine : routines_) {
    mix(static_cast<std::uint64_t>(routine.choice.algorithm) << 8 | static_cast<std::uint64_t>(routine.choice.arity));
    for (const std::uint32_t weight : routine.schedule.weights) mix(weight);
    for (const auto& round : routine.schedule.rounds)
      for (const Transfer& transfer : round)
        mix(static_cast<std::uint64_t>(transfer.chunk) << 16 | static_cast<std::uint64_t>(transfer.from) << 8 | static_cast<std::uint64_t>(transfer.to));
  }
  for (const TimedPlan& plan : options_.timings.plans) {
    mix(static_cast<std::uint64_t>(plan.kind.collective) << 2 | static_cast<std::uint64_t>(plan.kind.direct) << 1 | static_cast<std::uint64_t>(plan.kind.sentinel));
    mix(static_cast<std::uint64_t>(plan.choice.algorithm) << 16 | static_cast<std::uint64_t>(plan.choice.arity) << 1 | static_cast<std::uint64_t>(plan.through_host));
    for (const TimedSize& size : plan.sizes)
      for (const std::uint64_t figure : {size.bytes, size.measured_ns, size.modelled_ns}) mix(figure);
  }
  if (through_host_) mix(through_host_->digest());
  return hash;
}

std::uint64_t Planner::model_digest() const {
  std::uint64_t hash = 0xcbf29ce484222325u;
  const auto mix = [&](std::uint64_t value) { hash = (hash ^ value) * 0x100000001b3u; };
  for (const DataType type : {DataType::bfloat16, DataType::int32})
    for (std::size_t bytes = 1 << 10; bytes <= 64 << 20; bytes *= 16)
      for (const Plan& plan : candidates({.count = bytes / size_of(type), .type = type})) {
        mix(static_cast<std::uint64_t>(std::llround(plan.predicted_us * 1e3)));
        mix(static_cast<std::uint64_t>(plan.blocks) << 32 | static_cast<std::uint64_t>(plan.threads));
        mix(plan.tile_bytes);
      }
  return hash;
}

int Planner::mail_lanes(int most) const {
  constexpr int of_a_thread = 4;  // a host thread walks all of them: more would cut its messages small for nothing
  return fabric_.backend == Backend::host ? std::min(of_a_thread, most) : most;
}

int Planner::mail_blocks() const { return block_limit(fabric_, options_); }

Plan Planner::plan(const PlanRequest& request) const {
  const Plan here = plan_here(request);
  if (!through_host_) return here;
  const Plan there = through_host_->plan_here(request);
  return there.wire == Wire::sentinel && weighed_ns(there) < weighed_ns(here) ? there : here;
}

PlanReport Planner::explain(const PlanRequest& request) const {
  const Plan taken = plan(request);
  PlanReport report = planner_of(taken).explain_here(request);
  report.explanation += explain_timings(request);
  if (!taken.through_host) return report;
  report.plan = taken;
  report.explanation += fmt::format("\nAll of this is of ways through host memory. Receivers that could read out of their peers' memory would take {:.2f} us.\n", plan_here(request).predicted_us);
  return report;
}

Plan Planner::plan_here(const PlanRequest& request) const {
  if (request.collective != Collective::all_reduce) return others_->plan(request);
  return choose(request.count, operation_of(request, options_));
}

std::vector<Plan> Planner::candidates(const PlanRequest& request) const {
  std::vector<Plan> plans;
  if (request.collective == Collective::all_reduce) {
    for (const Routine& routine : routines_)
      if (allows(routine.choice))
        if (const auto plan = plan_routine(routine, request.count * size_of(request.type), fabric_, options_, operation_of(request, options_))) plans.push_back(*plan);
  } else {
    plans = others_->candidates(request);
  }
  if (!through_host_) return plans;
  for (const Plan& plan : through_host_->candidates(request))
    if (plan.wire == Wire::sentinel) plans.push_back(plan);
  return plans;
}

PlanReport Planner::explain_here(const PlanRequest& request) const {
  return request.collective == Collective::all_reduce ? explain_all_reduce(request) : others_->explain(request);
}

PlanReport Planner::explain(std::size_t count, DataType type, ReduceOp op) const { return explain({.count = count, .type = type, .op = op}); }

const Routine& Planner::routine_for(const PlanRequest& request, const Plan& plan) const {
  const bool reduces_all = request.collective == Collective::all_reduce;
  const Planner& planner = planner_of(plan);
  return reduces_all ? planner.routine(plan.choice) : planner.others_->routine(request.collective, plan.choice, request.root);
}

const Program& Planner::program(const PlanRequest& request, const Plan& plan, int rank) const {
  return routine_for(request, plan).programs_over(plan.wire).at(static_cast<std::size_t>(rank));
}

const Schedule& Planner::schedule(const PlanRequest& request, const Plan& plan) const { return routine_for(request, plan).schedule; }

Plan Planner::all_reduce(std::size_t count, DataType type, ReduceOp op) const { return plan({.count = count, .type = type, .op = op}); }

Plan Planner::choose(std::size_t count, Operation operation) const {
  require(is_valid(operation.type) && is_valid(operation.op), "expected a data type and a reduction of this library");
  require(count <= std::numeric_limits<std::size_t>::max() / size_of(operation.type), "the message is larger than any memory");
  std::optional<Plan> best;
  for (const Routine& routine : routines_) {
    if (!allows(routine.choice)) continue;
    auto plan = plan_routine(routine, count * size_of(operation.type), fabric_, options_, operation);
    if (plan) correct(*plan, kind_of(Collective::all_reduce, operation), options_);
    if (plan && (!best || weighed_ns(*plan) < weighed_ns(*best))) best = plan;
  }
  require(
      best.has_value(),
      [&] {
        return "the pool is too small: " + std::to_string(options_.sentinel_slot_bytes) + " and " +
               std::to_string(options_.flagged_slot_bytes) + " bytes of slots fit no algorithm that is allowed";
      },
      ErrorCode::out_of_memory);
  return *best;
}

}  // namespace collectives
