#include "planner/repertoire.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <collectives/communicator.hpp>
#include <limits>

#include "base/require.hpp"
#include "planner/shape.hpp"

namespace collectives {
namespace {

constexpr int exchange_blocks = 32;  // any exchange has this many, however little it moves

bool is_one_message(Collective collective) { return collective == Collective::broadcast || collective == Collective::reduce; }

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
  return routines_.emplace(key, make_routine(choice, build_schedule(collective, choice, fabric_.ranks, std::get<3>(key)), fabric_)).first->second;
}

/// What the options leave. A forced algorithm that this collective does not have is no wish for it.
std::vector<AlgorithmChoice> Repertoire::allowed(Collective collective) const {
  auto choices = algorithms_of(collective);
  if (options_.forced && std::find(choices.begin(), choices.end(), *options_.forced) != choices.end()) return {*options_.forced};
  // What is only moved has no bits that an order could change.
  if (options_.invariant && reduces(collective)) std::erase_if(choices, [](AlgorithmChoice choice) { return !is_direct(choice.algorithm); });
  return choices;
}

const Routine& Repertoire::select(const PlanRequest& request, std::size_t bytes) const {
  const Routine* best = nullptr;
  double best_ns = std::numeric_limits<double>::infinity();
  for (const AlgorithmChoice choice : allowed(request.collective)) {
    const Routine& candidate = routine(request.collective, choice, request.root);
    const double ns = std::round(candidate.predicted_us(bytes) * 1e3);
    if (ns >= best_ns) continue;
    best = &candidate;
    best_ns = ns;
  }
  ensure(best != nullptr, "no algorithm is allowed");
  return *best;
}

Plan Repertoire::plan(const PlanRequest& request) const {
  require_sound(request, fabric_.ranks);
  Plan plan;
  // Ranks know of an exchange only what they send and receive themselves: its layout is the same whatever that is.
  const bool sized = request.collective != Collective::exchange;
  plan.bytes = sized ? chunked_bytes(request, fabric_.ranks) : std::size_t{1} << 30;
  const Routine& chosen = select(request, plan.bytes);
  plan.choice = chosen.choice;
  plan.predicted_us = chosen.predicted_us(chunked_bytes(request, fabric_.ranks));
  PlannerOptions options = options_;
  // Bits that are only moved must arrive as they are: no word of them may stand for "empty".
  if (!reduces(request.collective)) options.wire = Wire::flagged;
  if (!sized) options.max_blocks = options.max_blocks > 0 ? std::min(options.max_blocks, exchange_blocks) : exchange_blocks;
  shape_plan(plan, chosen, fabric_, options, {request.type, request.op, true});
  plan.bytes = message_bytes(request, fabric_.ranks);
  return plan;
}

PlanReport Repertoire::explain(const PlanRequest& request) const {
  PlanReport report{.plan = plan(request), .candidates = {}, .explanation = {}};
  const std::size_t bytes = chunked_bytes(request, fabric_.ranks);
  const auto choices = allowed(request.collective);
  for (const AlgorithmChoice choice : algorithms_of(request.collective)) {
    const Routine& found = routine(request.collective, choice, request.root);
    const bool is_allowed = std::find(choices.begin(), choices.end(), choice) != choices.end();
    const char* note = choice == report.plan.choice ? "taken" : is_allowed ? "passed over: no faster" : "passed over: the options rule it out";
    report.candidates.push_back({choice, static_cast<int>(found.schedule.rounds.size()), found.sent_share * static_cast<double>(bytes), found.predicted_us(bytes), note});
  }
  std::stable_sort(report.candidates.begin(), report.candidates.end(), [&](const Candidate& a, const Candidate& b) {
    const bool taken_a = a.choice == report.plan.choice, taken_b = b.choice == report.plan.choice;
    return taken_a != taken_b ? taken_a : a.predicted_us < b.predicted_us;
  });
  const Plan& plan = report.plan;
  report.explanation = fmt::format("{} of {} {} elements, {} bytes in all, on {} ranks: {}, {} wire, {} blocks of {} threads, predicted {:.2f} us.\n\n", name_of(request.collective),
                                   request.count, name_of(request.type), plan.bytes, fabric_.ranks, to_string(plan.choice), name_of(plan.wire), plan.blocks, plan.threads, plan.predicted_us);
  for (const Candidate& candidate : report.candidates)
    report.explanation += fmt::format("{:<14} {:>3} rounds {:>14.0f} bytes sent {:>12.2f} us  {}\n", to_string(candidate.choice), candidate.steps,
                                      candidate.bytes_per_rank, candidate.predicted_us, candidate.note);
  return report;
}

}  // namespace collectives
