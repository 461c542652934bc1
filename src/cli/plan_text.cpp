#include "cli/plan_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "cli/text.hpp"

namespace cli {
namespace {

using collectives::Candidate;
using collectives::Collective;
using collectives::Move;
using collectives::Plan;
using nlohmann::ordered_json;

std::string microseconds(double us) { return us < 10'000 ? fmt::format("{:.2f} us", us) : fmt::format("{:.2f} ms", us * 1e-3); }

std::string places(const PlannedCall& call) {
  std::string out;
  for (std::size_t rank = 0; rank < call.devices.size(); ++rank)
    out += fmt::format("{}{}:GPU{}", rank == 0 ? "" : " ", rank, call.devices[rank]);
  return out;
}

std::string call_in_words(const PlannedCall& call) {
  std::string out = name_of(call.request.collective);
  if (reduces(call.request.collective)) out += fmt::format(" ({})", name_of(call.request.op));
  if (has_root(call.request.collective)) out += fmt::format(" with root {}", call.request.root);
  return out + fmt::format(" of {} of {}", bytes_in_words(static_cast<double>(call.report.plan.bytes)), name_of(call.request.type));
}

/// Is there a bound to measure by?
bool is_bounded(const PlannedCall& call) { return call.report.bound_us > 0; }

std::string taken_in_words(const PlannedCall& call) {
  const Plan& plan = call.report.plan;
  const Candidate& taken = call.report.candidates.front();
  std::string out = fmt::format("Taken: {}, predicted {} by the model: {} GB/s.\n", to_string(plan.choice), microseconds(plan.predicted_us),
                                rounded(static_cast<double>(plan.bytes) / plan.predicted_us * 1e-3));
  if (is_bounded(call)) {
    const std::string than = call.report.waits_for_latency() ? fmt::format("{}; the rest of its time is latency", microseconds(taken.traffic_us))
                                                             : fmt::format("{:.1f} % more", 100 * taken.gap);
    out += fmt::format("Bound: {}; no traffic of this collective{}{} takes less here, whatever its latency. This plan's takes {}.\n", microseconds(call.report.bound_us),
                       call.request.collective == Collective::all_reduce ? " along trees" : "", plan.through_host ? " through host memory" : "", than);
  }
  out += fmt::format("It waits for: {}{}.\n{}\n", call.report.waits_for_latency() ? "latency; its traffic for " : "", printable(taken.busiest), how_it_runs(plan));
  if (plan.through_host) out += "What receivers could read over links goes through host memory, which is faster at this size.\n";
  return out;
}

std::string candidates_text(const PlannedCall& call) {
  std::vector<std::vector<std::string>> rows = {
      {"algorithm", "steps", "bytes a rank", "predicted", "gap", "waits for, and why it was taken or passed over"}};
  const bool gaps = is_bounded(call) && !call.report.waits_for_latency();
  for (const Candidate& candidate : call.report.candidates)
    rows.push_back({to_string(candidate.choice), std::to_string(candidate.steps), bytes_in_words(candidate.bytes_per_rank),
                    microseconds(candidate.predicted_us), gaps ? fmt::format("{:.1f} %", 100 * candidate.gap) : "-",
                    printable(candidate.busiest) + "; " + printable(candidate.note)});
  return aligned(rows, true);
}

ordered_json moves_json(const PlannedCall& call) {
  ordered_json moves = ordered_json::array();
  for (const Move& move : call.report.moves)
    moves.push_back({{"round", move.round}, {"channel", move.channel}, {"from", move.from}, {"to", move.to}, {"reduces", move.reduces}, {"handover", name_of(move.handover)}});
  return moves;
}

}  // namespace

std::string plan_text(const PlannedCall& call) {
  return fmt::format("{}, ranks {}\n{}\n\n{}\n{}", call.machine.empty() ? "Machine" : printable(call.machine), places(call),
                     call_in_words(call), taken_in_words(call), candidates_text(call));
}

std::string schedule_text(const PlannedCall& call) {
  const auto& report = call.report;
  const auto bytes_of = [&](int channel) {
    return report.shares[static_cast<std::size_t>(channel)] * static_cast<double>(report.plan.bytes);
  };
  std::string out = fmt::format("\nSchedule of {}: {} channel{}\n", to_string(report.plan.choice), report.shares.size(),
                                report.shares.size() == 1 ? "" : "s");
  constexpr const char* how[] = {"", ", read by the receiver", ", through host memory"};
  int round = -1;
  for (const Move& move : report.moves) {
    if (move.round != round) out += fmt::format("round {}\n", (round = move.round) + 1);
    out += fmt::format("  {:>2} -> {:<2}  channel {:<3} {:>10}  {}{}\n", move.from, move.to, move.channel,
                       bytes_in_words(std::round(bytes_of(move.channel))), move.reduces ? "reduce" : "copy", how[static_cast<int>(move.handover)]);
  }
  return out;
}

std::string plan_json(const PlannedCall& call, bool with_schedule) {
  const Plan& plan = call.report.plan;
  ordered_json candidates = ordered_json::array();
  for (const Candidate& candidate : call.report.candidates) {
    candidates.push_back({{"algorithm", to_string(candidate.choice)},
                          {"steps", candidate.steps},
                          {"bytes_per_rank", candidate.bytes_per_rank},
                          {"predicted_us", candidate.predicted_us},
                          {"traffic_us", candidate.traffic_us},
                          {"busiest", candidate.busiest},
                          {"note", candidate.note}});
    if (is_bounded(call)) candidates.back()["gap"] = candidate.gap;
  }
  ordered_json json = {{"machine", call.machine},
                       {"devices", call.devices},
                       {"collective", name_of(call.request.collective)},
                       {"type", name_of(call.request.type)},
                       {"op", name_of(call.request.op)},
                       {"root", call.request.root},
                       {"bytes", plan.bytes},
                       {"plan",
                        {{"algorithm", to_string(plan.choice)},
                         {"wire", name_of(plan.wire)},
                         {"blocks", plan.blocks},
                         {"crews", plan.crews},
                         {"threads", plan.threads},
                         {"tile_bytes", plan.tile_bytes},
                         {"stages", plan.stages},
                         {"through_host", plan.through_host},
                         {"predicted_us", plan.predicted_us}}},
                       {"candidates", candidates}};
  if (is_bounded(call)) json["bound_us"] = call.report.bound_us;
  if (with_schedule) json.update({{"shares", call.report.shares}, {"moves", moves_json(call)}});
  return json.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

std::vector<Arrow> arrows_of(const PlannedCall& call) {
  constexpr std::size_t most_channels = 8, most_arrows = 64;
  const auto collect = [&](bool apart) {
    std::map<std::tuple<int, int, int>, double> shares;
    for (const Move& move : call.report.moves)
      shares[{apart ? move.channel : 0, move.from, move.to}] += call.report.shares[static_cast<std::size_t>(move.channel)];
    return shares;
  };
  auto shares = collect(call.report.shares.size() <= most_channels);
  if (shares.size() > most_arrows) shares = collect(false);
  std::vector<Arrow> arrows;
  for (const auto& [key, share] : shares) {
    const auto [channel, from, to] = key;
    arrows.push_back({call.devices[static_cast<std::size_t>(from)], call.devices[static_cast<std::size_t>(to)], channel, share});
  }
  return arrows;
}

}  // namespace cli
