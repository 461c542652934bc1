#include "planner/repertoire.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <collectives/communicator.hpp>
#include <limits>
#include <optional>

#include "base/require.hpp"
#include "planner/bound.hpp"
#include "planner/shape.hpp"

namespace collectives {
namespace {

void require_sound(const PlanRequest& request, int ranks) {
  require(is_valid(request.collective) && is_valid(request.type) && is_valid(request.op), "expected a collective, a data type and a reduction of this library");
  require(request.count <= std::numeric_limits<std::size_t>::max() / 16 / max_ranks / max_ranks, "the message is larger than any memory");
  require(request.root >= 0 && request.root < ranks, [&] { return fmt::format("a root of {}: expected 0 to {}", request.root, ranks - 1); });
}

/// All that ranks have to move: the message, or a block for each chunk.
std::size_t chunked_bytes(const PlanRequest& request, int ranks) {
  const std::size_t bytes = request.count * size_of(request.type), n = static_cast<std::size_t>(ranks);
  if (is_one_message(request.collective)) return bytes;
  const bool pairs = request.collective == Collective::all_to_all || request.collective == Collective::exchange;
  return bytes * n * (pairs ? n : 1);
}

/// Of one block, or of the one message, what has to leave these ranks.
double blocks_leaving(const PlanRequest& request, std::uint32_t inside, int ranks) {
  const int within = std::popcount(inside), without = ranks - within;
  const bool has_root = (inside >> request.root & 1) != 0;
  switch (request.collective) {
    case Collective::broadcast: return has_root ? 1 : 0;
    case Collective::reduce: return has_root ? 0 : 1;
    case Collective::scatter: return has_root ? without : 0;
    case Collective::gather: return has_root ? 0 : within;
    case Collective::all_to_all: return within * without;
    default: return 0;
  }
}

/// What cuts prove, 0 where nothing is known to have to cross them.
double bound_us(const PlanRequest& request, const Limits& limits) {
  const double block = static_cast<double>(request.count * size_of(request.type));
  if (request.collective == Collective::all_gather || request.collective == Collective::reduce_scatter) {
    const Cut cut = request.collective == Collective::all_gather ? all_gather_cut(limits) : reduce_scatter_cut(limits);
    return block * cut.ranks / static_cast<double>(cut.mb_per_s);
  }
  return crossing_us(limits, [&](std::uint32_t inside) { return block * blocks_leaving(request, inside, limits.ranks()); });
}

/// All blocks of the larger buffer: what nccl-tests calls the size.
std::size_t message_bytes(const PlanRequest& request, int ranks) {
  const std::size_t bytes = request.count * size_of(request.type);
  return is_one_message(request.collective) ? bytes : bytes * static_cast<std::size_t>(ranks);
}

}  // namespace

const Routine& Repertoire::routine(Collective collective, AlgorithmChoice choice, int root) const {
  const std::lock_guard lock(mutex_);
  const Key key{collective, choice.algorithm, choice.arity, has_root(collective) ? root : 0};
  const auto found = routines_.find(key);
  if (found != routines_.end()) return found->second;
  Schedule schedule = survey_.fabric.ranks == 1 ? schedule_of_one_rank() : build_schedule(collective, choice, survey_, std::get<3>(key));
  return routines_.emplace(key, make_routine(choice, std::move(schedule), survey_)).first->second;
}

std::vector<AlgorithmChoice> Repertoire::built(Collective collective) const {
  return survey_.fabric.ranks == 1 ? algorithms_for_one_rank() : algorithms_of(collective);
}

/// What the options leave. A forced algorithm that this collective does not have is no wish for it.
std::vector<AlgorithmChoice> Repertoire::allowed(Collective collective) const {
  auto choices = built(collective);
  if (options_.forced && std::find(choices.begin(), choices.end(), *options_.forced) != choices.end()) return {*options_.forced};
  // What is only moved has no bits that an order could change.
  if (options_.invariant && reduces(collective)) std::erase_if(choices, [](AlgorithmChoice choice) { return !is_direct(choice.algorithm); });
  return choices;
}

PlannerOptions Repertoire::options_for(Collective collective) const {
  PlannerOptions options = options_;
  // Bits that are only moved must arrive as they are: no word of them may stand for "empty".
  if (!reduces(collective)) options.wire = Wire::flagged;
  return options;
}

std::optional<Plan> Repertoire::model_by(AlgorithmChoice choice, const PlanRequest& request) const {
  const std::size_t bytes = chunked_bytes(request, survey_.fabric.ranks);
  const Routine& wanted = routine(request.collective, choice, request.root);
  auto plan = plan_routine(wanted, bytes, survey_.fabric, options_for(request.collective), operation_of(request, options_));
  if (!plan) return {};
  plan->bytes = message_bytes(request, survey_.fabric.ranks);
  return plan;
}

std::optional<Plan> Repertoire::plan_by(AlgorithmChoice choice, const PlanRequest& request) const {
  auto plan = model_by(choice, request);
  if (plan) correct(*plan, kind_of(request.collective, operation_of(request, options_)), options_);
  return plan;
}

std::vector<Plan> Repertoire::candidates(const PlanRequest& request) const {
  require_sound(request, survey_.fabric.ranks);
  std::vector<Plan> plans;
  for (const AlgorithmChoice choice : allowed(request.collective))
    if (const auto plan = model_by(choice, request)) plans.push_back(*plan);
  return plans;
}

Plan Repertoire::plan(const PlanRequest& request) const {
  require_sound(request, survey_.fabric.ranks);
  std::optional<Plan> best;
  for (const AlgorithmChoice choice : allowed(request.collective)) {
    const auto plan = plan_by(choice, request);
    if (plan && (!best || std::round(plan->predicted_us * 1e3) < std::round(best->predicted_us * 1e3))) best = plan;
  }
  require(best.has_value(), "the pool is too small: its slots fit no algorithm that is allowed", ErrorCode::out_of_memory);
  return *best;
}

PlanReport Repertoire::explain(const PlanRequest& request) const {
  const std::size_t bytes = chunked_bytes(request, survey_.fabric.ranks);
  PlanReport report{.plan = plan(request), .bound_us = 0, .candidates = {}, .explanation = {}};
  // Cuts count host memory once, for what is written and read there.
  if (survey_.fabric.ranks > 1) report.bound_us = bound_us(request, report.plan.wire == Wire::flagged ? Limits(offering_on(survey_.fabric)) : survey_.limits);
  const auto choices = allowed(request.collective);
  for (const AlgorithmChoice choice : built(request.collective)) {
    const Routine& found = routine(request.collective, choice, request.root);
    const bool is_allowed = std::find(choices.begin(), choices.end(), choice) != choices.end();
    const char* note = choice == report.plan.choice ? "taken" : is_allowed ? "passed over: no faster" : "passed over: the options rule it out";
    const auto planned = plan_by(choice, request);
    if (!planned) continue;  // its slots do not fit the pool
    const Cost& cost = found.cost_over(planned->wire);
    report.candidates.push_back({.choice = choice,
                                 .steps = cost.rounds,
                                 .bytes_per_rank = cost.sent_share * static_cast<double>(bytes),
                                 .predicted_us = planned->predicted_us,
                                 .traffic_us = cost.load_us_per_byte * static_cast<double>(bytes),
                                 .measured = planned->measured,
                                 .gap = report.bound_us > 0 ? gap_of(cost.load_us_per_byte * static_cast<double>(bytes), report.bound_us) : 0,
                                 .busiest = name_of_busiest(cost, survey_.limits_over(planned->wire), survey_.fabric),
                                 .note = note});
  }
  std::stable_sort(report.candidates.begin(), report.candidates.end(), [&](const Candidate& a, const Candidate& b) {
    const bool taken_a = a.choice == report.plan.choice, taken_b = b.choice == report.plan.choice;
    return taken_a != taken_b ? taken_a : a.predicted_us < b.predicted_us;
  });
  const Plan& plan = report.plan;
  report.explanation = fmt::format("{} of {} {} elements, {} bytes in all, on {} ranks: {}, {} wire, {} blocks of {} threads, predicted {:.2f} us.\n\n", name_of(request.collective),
                                   request.count, name_of(request.type), plan.bytes, survey_.fabric.ranks, to_string(plan.choice), name_of(plan.wire), plan.blocks, plan.threads, plan.predicted_us);
  for (const Candidate& candidate : report.candidates)
    report.explanation += fmt::format("{:<14} {:>3} rounds {:>14.0f} bytes sent {:>12.2f} us  {}\n", to_string(candidate.choice), candidate.steps,
                                      candidate.bytes_per_rank, candidate.predicted_us, candidate.note);
  return report;
}

}  // namespace collectives
