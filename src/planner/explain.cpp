#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <tuple>

#include "planner/bound.hpp"
#include "planner/planner.hpp"

namespace collectives {
namespace {

std::string in_words(double bytes) {
  constexpr const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  while (bytes >= 1024 && unit < 4) {
    bytes /= 1024;
    ++unit;
  }
  return bytes == std::floor(bytes) ? fmt::format("{:.0f} {}", bytes, units[unit]) : fmt::format("{:.1f} {}", bytes, units[unit]);
}

std::string rounds_in_words(int rounds) { return fmt::format("{} round{}", rounds, rounds == 1 ? "" : "s"); }

std::string ranks_in_words(const Fabric& fabric) {
  if (fabric.ranks == 1) return "one rank";
  bool host = false, pulled = false;
  for (int from = 0; from < fabric.ranks; ++from)
    for (int to = 0; to < fabric.ranks; ++to) {
      host = host || (from != to && !fabric.link(from, to).by_peer());
      pulled = pulled || fabric.link(from, to).pulled;
    }
  const char* reach = host && pulled ? "some reach each other through the host only, some read what others have for them"
                      : host         ? "some reach each other through the host only"
                      : pulled       ? "some read what others have for them"
                                     : "each reaches every other directly";
  return fmt::format("{} {} ({})", fabric.ranks, fabric.backend == Backend::host ? "CPU ranks" : "GPUs", reach);
}

/// Is it certainly the faster, by the model?
bool is_faster(const Candidate& candidate, const Candidate& than) { return candidate.predicted_us < 0.9995 * than.predicted_us; }

std::string note_on_taken(const PlanReport& report, const PlannerOptions& options, bool has_faster) {
  if (options.forced) return "taken: forced";
  if (!has_faster) return "taken: the least predicted time";
  return fmt::format("taken: {}'s bits do not depend on the message size, which is worth {:.0f} % of time", to_string(report.plan.choice),
                     percent_for_direct);
}

std::string note_on(const Candidate& candidate, const Candidate& taken, const PlannerOptions& options, bool allowed) {
  if (!allowed) return options.forced ? "passed over: another is forced" : "passed over: its bits would depend on the message size";
  const double ratio = candidate.predicted_us / taken.predicted_us;
  if (is_faster(candidate, taken))
    return fmt::format("passed over: {:.1f} % less time, too little for bits that depend on the message size", 100 - 100 * ratio);
  if (ratio < 1.005) return "passed over: no faster, and listed later";
  const bool later = candidate.steps > taken.steps;
  const bool more = candidate.bytes_per_rank > taken.bytes_per_rank;
  return fmt::format("passed over: {:.2f}x the time, {}", ratio,
                     later && more ? "more rounds and more bytes"
                     : later       ? "more rounds"
                     : more        ? "more bytes"
                     : candidate.measured ? "as was measured"
                                          : "slower links");
}

std::string bound_in_words(const PlanReport& report) {
  const Candidate& taken = report.candidates.front();
  if (taken.steps == 0) return "Nothing leaves the rank.";
  const std::string more = report.waits_for_latency() ? fmt::format("{:.2f} us, little beside latency", taken.traffic_us) : fmt::format("{:.1f} % more", 100 * taken.gap);
  return fmt::format("Whatever goes up and down trees here takes {:.2f} us at least, latency apart; what this plan moves takes {}, and waits for {}.",
                     report.bound_us, more, taken.busiest);
}

std::string table_of(const PlanReport& report) {
  std::string table =
      fmt::format("{:<14} {:>6} {:>14} {:>12} {:>9}  {}\n", "algorithm", "rounds", "sent per rank", "predicted us", "gap", "note");
  for (const Candidate& candidate : report.candidates)
    table += fmt::format("{:<14} {:>6} {:>14} {:>12.2f} {:>9}  {}\n", to_string(candidate.choice), candidate.steps, in_words(candidate.bytes_per_rank),
                         candidate.predicted_us, report.waits_for_latency() ? "-" : fmt::format("{:.1f} %", 100 * candidate.gap), candidate.note);
  return table;
}

}  // namespace

std::string how_it_runs(const Plan& plan) {
  const std::string tiles = in_words(static_cast<double>(plan.tile_bytes));
  const std::string blocks = fmt::format("{} block{} of {} thread{}", plan.blocks, plan.blocks == 1 ? "" : "s", plan.threads, plan.threads == 1 ? "" : "s");
  if (plan.copies) return fmt::format("Copy engines move pieces of {} through {} slots a peer; {} combine them.", tiles, plan.stages, blocks);
  const std::string crews = plan.crews > 1 ? fmt::format("{} crews, one a round, of ", plan.crews) : "";
  return fmt::format("It runs as {}{} a rank, {} wire, tiles of {}, {} under way at once on a lane.", crews, blocks, name_of(plan.wire), tiles, plan.stages);
}

PlanReport Planner::explain_all_reduce(const PlanRequest& request) const {
  const auto [count, type, op] = std::tuple(request.count, request.type, request.op);
  const Operation operation = operation_of(request, options_);
  PlanReport report{.plan = choose(count, operation), .bound_us = 0, .candidates = {}, .explanation = {}};
  const Plan& plan = report.plan;
  if (fabric_.ranks > 1) report.bound_us = static_cast<double>(plan.bytes) / survey_.bound_over(plan.wire);
  for (const Routine& routine : routines_) {
    auto planned = plan_routine(routine, plan.bytes, fabric_, options_, operation);
    if (!planned) continue;  // its slots do not fit the pool
    correct(*planned, kind_of(request.collective, operation), options_);
    const Cost& cost = routine.cost_over(planned->wire);
    report.candidates.push_back({.choice = routine.choice,
                                 .steps = cost.rounds,
                                 .bytes_per_rank = cost.sent_share * static_cast<double>(plan.bytes),
                                 .predicted_us = planned->predicted_us,
                                 .traffic_us = cost.load_us_per_byte * static_cast<double>(plan.bytes),
                                 .measured = planned->measured,
                                 .gap = fabric_.ranks > 1 ? gap_of(cost.load_us_per_byte, 1 / survey_.bound_over(planned->wire)) : 0,
                                 .busiest = name_of_busiest(cost, survey_.limits_over(planned->wire), fabric_),
                                 .note = {}});
  }
  const auto place = [&](const Candidate& c) {
    const int rank = c.choice == plan.choice ? 0 : allows(c.choice) ? 1 : 2;
    return std::pair(rank, std::round(c.predicted_us * 1e3));
  };
  std::stable_sort(report.candidates.begin(), report.candidates.end(),
                   [&](const Candidate& a, const Candidate& b) { return place(a) < place(b); });
  const Candidate taken = report.candidates.front();
  bool has_faster = false;
  for (Candidate& candidate : report.candidates) {
    candidate.note = note_on(candidate, taken, options_, allows(candidate.choice));
    has_faster = has_faster || (allows(candidate.choice) && is_faster(candidate, taken));
  }
  report.candidates.front().note = note_on_taken(report, options_, has_faster);

  report.explanation =
      fmt::format("All-reduce ({}) of {} {} elements, {}, on {}: {} in {}, {} sent by the busiest rank, predicted {:.2f} us. ", name_of(op),
                  count, name_of(type), in_words(static_cast<double>(plan.bytes)), ranks_in_words(fabric_), to_string(plan.choice),
                  rounds_in_words(taken.steps), in_words(taken.bytes_per_rank), plan.predicted_us);
  if (options_.forced) report.explanation += "This algorithm is forced. ";
  if (options_.invariant) report.explanation += "Only direct algorithms are allowed, so that no bit depends on the message size. ";
  report.explanation += bound_in_words(report);
  report.explanation += fmt::format(" {}\n\n{}", how_it_runs(plan), table_of(report));
  return report;
}

std::string Planner::explain_timings(const PlanRequest& request) const {
  const Timings& timings = options_.timings;
  const CallKind kind = kind_of(request.collective, operation_of(request, options_));
  const auto sizes = timings.sizes_of(kind);
  if (sizes.empty()) return {};
  const auto time = static_cast<std::time_t>(timings.taken_at);
  std::tm utc{};
  ::gmtime_r(&time, &utc);
  std::string names;
  for (const TimedPlan& timed : timings.plans)
    if (timed.kind == kind) names += fmt::format("{}{}{}", names.empty() ? "" : ", ", to_string(timed.choice), timed.through_host ? " through host memory" : "");
  std::string text = fmt::format("\nThese ranks were tuned at {:04}-{:02}-{:02} {:02}:{:02} UTC: the times of {} follow from what was measured then, all others are the model's.\n",
                                 utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, names);
  text += fmt::format("{:>10}  {:<14} {:>12} {:>12}\n", "bytes", "taken", "measured us", "model's us");
  const std::size_t unit = size_of(request.type) * (is_one_message(request.collective) ? 1 : static_cast<std::size_t>(fabric_.ranks));
  for (const std::size_t bytes : sizes) {
    PlanRequest other = request;
    other.count = std::max<std::size_t>(bytes / unit, 1);
    const Plan taken = plan(other);
    const TimedPlan* timed = timings.find(kind, taken.choice, taken.through_host);
    const TimedSize* size = timed == nullptr ? nullptr : timed->at(taken.bytes);
    const auto figure = [&](std::uint64_t TimedSize::*ns) { return size == nullptr ? std::string("-") : fmt::format("{:.2f}", static_cast<double>(size->*ns) / 1e3); };
    text += fmt::format("{:>10}  {:<14} {:>12} {:>12}\n", in_words(static_cast<double>(bytes)), to_string(taken.choice), figure(&TimedSize::measured_ns), figure(&TimedSize::modelled_ns));
  }
  return text;
}

}  // namespace collectives
