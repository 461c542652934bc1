#include "comm/tuning.hpp"

#include <algorithm>
#include <cmath>

namespace collectives {
namespace {

/// As many elements as the message has, in blocks of whole packs where there are blocks.
std::size_t count_for(Collective collective, DataType type, std::size_t bytes, int ranks) {
  constexpr std::size_t pack_bytes = 16;
  if (is_one_message(collective)) return std::max<std::size_t>(bytes / size_of(type), 1);
  const std::size_t packs = std::max<std::size_t>(bytes / static_cast<std::size_t>(ranks) / pack_bytes, 1);
  return packs * pack_bytes / size_of(type);
}

double predicted_us(const Rehearsal& rehearsal, const Plan& plan, const Timings& timings) {
  const TimedPlan* timed = timings.find(rehearsal.kind, plan.choice, plan.through_host);
  return timed == nullptr ? plan.predicted_us : plan.predicted_us * timed->correction(plan.bytes);
}

}  // namespace

std::vector<Rehearsal> rehearsals_of(const Planner& planner, const TuneOptions& options) {
  std::vector<Rehearsal> rehearsals;
  for (const std::size_t bytes : options.sizes)
    for (const Collective collective : options.collectives)
      for (const DataType type : {DataType::bfloat16, DataType::int32}) {
        if (!reduces(collective) && type != DataType::bfloat16) continue;  // bits are bits
        Rehearsal rehearsal{.request = {.collective = collective, .count = count_for(collective, type, bytes, planner.fabric().ranks), .type = type}, .kind = {}, .candidates = {}, .measured_ns = {}};
        rehearsal.kind = kind_of(collective, operation_of(rehearsal.request, planner.options()));
        rehearsal.candidates = planner.candidates(rehearsal.request);
        rehearsal.measured_ns.resize(rehearsal.candidates.size());
        rehearsals.push_back(std::move(rehearsal));
      }
  return rehearsals;
}

bool search(std::vector<Rehearsal>& rehearsals, Timings& timings, const std::function<std::uint64_t(const Rehearsal&, const Plan&)>& measure) {
  for (bool more = true; more;) {
    more = false;
    for (Rehearsal& rehearsal : rehearsals) {
      double least = HUGE_VAL;
      for (const Plan& plan : rehearsal.candidates) least = std::min(least, predicted_us(rehearsal, plan, timings));
      for (std::size_t i = 0; i < rehearsal.candidates.size(); ++i) {
        const Plan& plan = rehearsal.candidates[i];
        if (rehearsal.measured_ns[i] != 0 || predicted_us(rehearsal, plan, timings) > worth_measuring * least) continue;
        rehearsal.measured_ns[i] = measure(rehearsal, plan);
        if (rehearsal.measured_ns[i] == 0) return false;
        timings.record(rehearsal.kind, plan.choice, plan.through_host,
                       {.bytes = plan.bytes, .measured_ns = rehearsal.measured_ns[i], .modelled_ns = static_cast<std::uint64_t>(std::llround(plan.predicted_us * 1e3))});
        more = true;
      }
    }
  }
  return true;
}

}  // namespace collectives
