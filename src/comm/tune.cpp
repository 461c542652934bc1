#include <fmt/format.h>

#include <algorithm>
#include <ctime>

#include "base/log.hpp"
#include "base/require.hpp"
#include "comm/impl.hpp"
#include "comm/timings_cache.hpp"
#include "comm/tuning.hpp"
#include "exec/timer.hpp"

// Ranks that measure together what their calls take. All they tell each other goes through calls of their own, so that a rank that
// fails meanwhile is noticed as ever, and all of them come to one table.
namespace collectives {
namespace {

constexpr std::size_t largest_size = std::size_t{1} << 30;

void expect_tunable(const TuneOptions& options, const Fabric& fabric) {
  constexpr Collective tunable[] = {Collective::all_reduce, Collective::reduce_scatter, Collective::all_gather, Collective::broadcast, Collective::reduce};
  for (const Collective collective : options.collectives)
    require(std::find(std::begin(tunable), std::end(tunable), collective) != std::end(tunable),
            [&] { return fmt::format("{} cannot be tuned: expected all_reduce, reduce_scatter, all_gather, broadcast or reduce", is_valid(collective) ? name_of(collective) : "a collective that does not exist"); });
  require(!options.collectives.empty() && !options.sizes.empty(), "nothing to tune: expected a collective and a size at least");
  for (const std::size_t bytes : options.sizes)
    require(bytes >= 16 && bytes <= largest_size, [&] { return fmt::format("a size of {} bytes: expected 16 to {}", bytes, largest_size); });
  require(fabric.ranks_per_device == 1, "ranks share a GPU: what they take says nothing of ranks that have one each", ErrorCode::unsupported);
}

/// What a rank's buffers need for all of them.
std::size_t bytes_for(const std::vector<Rehearsal>& rehearsals, int ranks) {
  std::size_t most = 0;
  for (const Rehearsal& rehearsal : rehearsals) {
    const std::size_t bytes = rehearsal.request.count * size_of(rehearsal.request.type);
    most = std::max(most, is_one_message(rehearsal.request.collective) ? bytes : bytes * static_cast<std::size_t>(ranks));
  }
  return most;
}

std::unique_ptr<Timer> make_timer(Executor& executor, Backend backend, [[maybe_unused]] int device, std::size_t bytes) {
#if COLLECTIVES_HAS_CUDA
  if (backend == Backend::cuda) return make_cuda_timer(executor, device, bytes);
#endif
  ensure(backend == Backend::host, "a backend was resolved that this build does not have");
  return make_host_timer(executor, bytes);
}

TunedSize tuned_size(const Rehearsal& rehearsal, const Planner& before, const Planner& after) {
  TunedSize size{.request = rehearsal.request, .before = before.plan(rehearsal.request), .after = after.plan(rehearsal.request), .candidates = {}};
  for (std::size_t i = 0; i < rehearsal.candidates.size(); ++i) {
    const Plan& plan = rehearsal.candidates[i];
    size.candidates.push_back({plan.choice, plan.through_host, plan.predicted_us, static_cast<double>(rehearsal.measured_ns[i]) / 1e3});
  }
  std::stable_sort(size.candidates.begin(), size.candidates.end(), [](const TunedCandidate& a, const TunedCandidate& b) {
    const bool has_a = a.measured_us > 0, has_b = b.measured_us > 0;
    return has_a != has_b ? has_a : has_a ? a.measured_us < b.measured_us : a.modelled_us < b.modelled_us;
  });
  return size;
}

}  // namespace

TuneReport Communicator::tune(const TuneOptions& options) { return impl_->tune(options); }

void Communicator::Impl::call_in_place(const PlanRequest& request, Timer& timer) {
  const DataType type = request.type;
  const std::size_t count = request.count, all = count * static_cast<std::size_t>(size);
  std::byte* const message = timer.memory();
  std::byte* const own = message + static_cast<std::size_t>(rank) * count * size_of(type);
  switch (request.collective) {
    case Collective::all_reduce: return all_reduce({message, count, type}, {message, count, type}, {}, timer.stream());
    case Collective::reduce_scatter: return reduce_scatter({message, all, type}, {own, count, type}, equal_blocks(size, count), {}, timer.stream());
    case Collective::all_gather: return all_gather({own, count, type}, {message, all, type}, equal_blocks(size, count), timer.stream());
    case Collective::broadcast: return broadcast({message, count, type}, {message, count, type}, 0, timer.stream());
    default: return reduce({message, count, type}, {message, count, type}, {}, 0, timer.stream());
  }
}

std::uint64_t Communicator::Impl::most_of(std::uint64_t value, Timer& timer) {
  std::uint64_t* const word = timer.words();
  *word = value;
  all_reduce({word, 1, DataType::uint64}, {word, 1, DataType::uint64}, {ReduceOp::max}, timer.stream());
  executor->synchronize(timer.stream());
  expect_alive(false);
  return *word;
}

std::uint64_t Communicator::Impl::rehearse(const PlanRequest& request, const Plan& plan, std::uint64_t best_ns, Timer& timer) {
  constexpr std::uint64_t hopeless = 3, batch_ns = 300'000, enough_ns = 20'000'000;
  const auto taken = [&](std::uint64_t calls, std::uint64_t samples) {
    const auto meet = [&] { barrier(timer.stream()); };
    const auto call = [&] {
      rehearsed_ = &plan;
      call_in_place(request, timer);
      rehearsed_ = nullptr;
    };
    return std::max<std::uint64_t>(most_of(timer.time(static_cast<int>(calls), static_cast<int>(samples), meet, call), timer), 1);
  };
  const std::uint64_t first = taken(1, 1);
  if (best_ns != 0 && first > hopeless * best_ns)
    if (const std::uint64_t again = taken(1, 3); again > hopeless * best_ns) return again;
  const std::uint64_t calls = std::clamp<std::uint64_t>(batch_ns / first, 1, 50);
  return taken(calls, std::clamp<std::uint64_t>(enough_ns / (calls * first), 3, 7));
}

TuneReport Communicator::Impl::tune(const TuneOptions& options) {
  expect_tunable(options, world->plans->first().fabric());
  expect_alive(true);
  TuneReport report{.sizes = {}, .took_ms = 0, .complete = size == 1, .kept = false};
  if (size > 1) take_part([&] { tune_together(options, report); });
  return report;
}

void Communicator::Impl::tune_together(const TuneOptions& options, TuneReport& report) {
  const std::uint64_t began = now_ns();
  // Whatever was asked for before is in force behind this on every rank.
  executor->finish();
  follow();
  const Planner& planner = *planner_;
  std::vector<Rehearsal> rehearsals = rehearsals_of(planner, options);
  const std::unique_ptr<Timer> timer = make_timer(*executor, backend, device, bytes_for(rehearsals, size));

  Timings timings = planner.options().timings;
  std::erase_if(timings.plans, [&](const TimedPlan& plan) {
    return std::any_of(rehearsals.begin(), rehearsals.end(), [&](const Rehearsal& rehearsal) { return rehearsal.kind == plan.kind; });
  });
  timings.taken_at = static_cast<std::int64_t>(most_of(static_cast<std::uint64_t>(std::time(nullptr)), *timer));
  report.complete = search(rehearsals, timings, [&](const Rehearsal& rehearsal, const Plan& plan) -> std::uint64_t {
    const std::uint64_t elapsed_ns = most_of(now_ns() - began, *timer);
    if (planner_ != &planner || elapsed_ns > std::uint64_t{options.budget_ms} * 1'000'000) return 0;
    std::uint64_t best_ns = 0;
    for (const std::uint64_t ns : rehearsal.measured_ns)
      if (ns != 0 && (best_ns == 0 || ns < best_ns)) best_ns = ns;
    return rehearse(rehearsal.request, plan, best_ns, *timer);
  });
  report.took_ms = static_cast<double>(now_ns() - began) / 1e6;
  // A link was taken out meanwhile, and what was measured was partly without it.
  if (planner_ != &planner) return;
  go_by(world->plans->tuned(demotions.apart(), timings), 0);
  if (rank == 0 && options.keep && !world->identity.empty()) report.kept = cache_timings(timings_identity(world->identity, planner), timings);
  for (const Rehearsal& rehearsal : rehearsals) report.sizes.push_back(tuned_size(rehearsal, planner, *planner_));
  if (rank == 0) log(LogLevel::info, "tuned in {:.0f} ms{}", report.took_ms, report.complete ? "" : ", which was too little for everything");
}

}  // namespace collectives
