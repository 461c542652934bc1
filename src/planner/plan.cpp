#include <collectives/communicator.hpp>
#include <collectives/plan.hpp>

#include <charconv>
#include <numeric>

#include "base/require.hpp"
#include "planner/planner.hpp"
#include "planner/slot_shares.hpp"

namespace collectives {
namespace {

[[noreturn]] void refuse(std::string_view text) {
  std::string names;
  for (int index = 0; index < algorithm_count; ++index)
    names += std::string(index == 0 ? "" : ", ") + name_of(static_cast<Algorithm>(index));
  throw Error(ErrorCode::invalid_argument, "expected an algorithm, one of " + names + " (kary_tree:K with an arity K of 1 to " +
                                               std::to_string(max_ranks - 1) + "), not \"" + std::string(text) + "\"");
}

/// Chunks are channels. Between all and all each pair has a chunk, so that they are more than one buffer.
void add_moves(PlanReport& report, const Schedule& schedule, Collective collective, const Fabric& fabric) {
  const bool pairs = collective == Collective::all_to_all || collective == Collective::exchange;
  const double buffers = pairs ? schedule.ranks : 1;
  const auto equal = std::vector<std::uint32_t>(static_cast<std::size_t>(schedule.chunks), 1);
  const auto& weights = schedule.weights.empty() ? equal : schedule.weights;
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (const std::uint32_t weight : weights) report.shares.push_back(buffers * weight / total);
  for (std::size_t round = 0; round < schedule.rounds.size(); ++round)
    for (const Transfer& transfer : schedule.rounds[round])
      report.moves.push_back({static_cast<int>(round), transfer.chunk, transfer.from, transfer.to, transfer.action == Action::reduce,
                              fabric.link(transfer.from, transfer.to).handover()});
}

}  // namespace

AlgorithmChoice parse_algorithm(std::string_view text) {
  const auto colon = text.find(':');
  AlgorithmChoice choice;
  int index = 0;
  while (index < algorithm_count && text.substr(0, colon) != name_of(static_cast<Algorithm>(index))) ++index;
  if (index == algorithm_count) refuse(text);
  choice.algorithm = static_cast<Algorithm>(index);
  if (colon == std::string_view::npos) return choice;
  const std::string_view arity = text.substr(colon + 1);
  const auto [end, status] = std::from_chars(arity.data(), arity.data() + arity.size(), choice.arity);
  const bool whole = status == std::errc{} && end == arity.data() + arity.size();
  if (choice.algorithm != Algorithm::kary_tree || !whole || choice.arity < 1 || choice.arity >= max_ranks) refuse(text);
  return choice;
}

std::string to_string(AlgorithmChoice choice) {
  const std::string name = name_of(choice.algorithm);
  return choice.algorithm == Algorithm::kary_tree ? name + ":" + std::to_string(choice.arity) : name;
}

PlannerOptions usual_options(const Fabric& fabric) {
  const SlotShares shares = slot_shares(fabric);
  PlannerOptions options;
  options.sentinel_slot_bytes = shares.sentinels * largest_slot_share;
  options.flagged_slot_bytes = shares.flags * largest_slot_share;
  return options;
}

Planner planner_on(const Machine& machine, const std::vector<int>& devices) {
  require(devices.size() >= 2 && devices.size() <= static_cast<std::size_t>(max_ranks),
          [&] { return "a plan has 2 to 16 ranks, not " + std::to_string(devices.size()); });
  Fabric fabric = fabric_of(machine, devices);
  const PlannerOptions options = usual_options(fabric);
  return Planner(std::move(fabric), options);
}

PlanReport plan_call(const Machine& machine, const std::vector<int>& devices, const PlanRequest& request) {
  const Planner planner = planner_on(machine, devices);
  PlanReport report = planner.explain(request);
  add_moves(report, planner.schedule(request, report.plan), request.collective, planner.fabric(report.plan));
  return report;
}

PlanReport plan_all_reduce(const Machine& machine, const std::vector<int>& devices, std::size_t count, DataType type, ReduceOp op) {
  return plan_call(machine, devices, {.collective = Collective::all_reduce, .count = count, .type = type, .op = op});
}

}  // namespace collectives
