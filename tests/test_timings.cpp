// What was measured of a machine, and what the planner makes of it.
#include "planner/timings.hpp"

#include <cmath>
#include <collectives/error.hpp>
#include <random>

#include "planner/planner.hpp"
#include "planner_cases.hpp"
#include "test.hpp"

using namespace collectives;

namespace {

constexpr std::size_t kib = 1024, mib = 1024 * kib;
constexpr CallKind sums_of_floats{.collective = Collective::all_reduce, .direct = true, .sentinel = true};

PlannerOptions knowing(const Timings& timings) {
  PlannerOptions options;
  options.sentinel_slot_bytes = options.flagged_slot_bytes = std::size_t{16} << 20;
  options.timings = timings;
  return options;
}

PlanRequest sum_of(std::size_t bytes) { return {.count = bytes / 2, .type = DataType::bfloat16}; }

/// An algorithm that takes `factor` times as long as the model says, at each of these sizes.
void slow_down(Timings& timings, const Planner& planner, CallKind kind, PlanRequest request, AlgorithmChoice choice, double factor) {
  for (const Plan& plan : planner.candidates(request))
    if (plan.choice == choice) {
      const double ns = std::round(plan.predicted_us * 1e3);
      timings.record(kind, choice, plan.through_host, {plan.bytes, static_cast<std::uint64_t>(ns * factor), static_cast<std::uint64_t>(ns)});
    }
}

Timings some_timings() {
  Timings timings{.taken_at = 1'795'000'000, .plans = {}};
  timings.record(sums_of_floats, {Algorithm::one_shot}, false, {4096, 2500, 2600});
  timings.record(sums_of_floats, {Algorithm::one_shot}, false, {1024, 2400, 2500});
  timings.record(sums_of_floats, {Algorithm::kary_tree, 3}, true, {4096, 9000, 7000});
  timings.record({Collective::broadcast, true, false}, {Algorithm::ring}, false, {65536, 9000, 7000});
  return timings;
}

}  // namespace

TEST_CASE("between measured sizes the model's error is interpolated, beyond them it stays", "[planner][tune]") {
  TimedPlan plan;
  plan.sizes = {{1024, 3000, 1000}, {4096, 1000, 1000}, {16384, 2000, 4000}};
  CHECK(plan.correction(1) == 3);
  CHECK(plan.correction(1024) == 3);
  CHECK(plan.correction(2048) == Approx(std::sqrt(3.0)));  // half way in logarithms, of sizes and of errors
  CHECK(plan.correction(4096) == 1);
  CHECK(plan.correction(8192) == Approx(std::sqrt(0.5)));
  CHECK(plan.correction(16384) == 0.5);
  CHECK(plan.correction(std::size_t{1} << 40) == 0.5);
  REQUIRE(plan.at(4096) != nullptr);
  CHECK(plan.at(4096)->measured_ns == 1000);
  CHECK(plan.at(4097) == nullptr);
}

TEST_CASE("a size that is measured again is replaced, and sizes stand in order", "[planner][tune]") {
  Timings timings = some_timings();
  timings.record(sums_of_floats, {Algorithm::one_shot}, false, {4096, 7, 8});
  const TimedPlan* timed = timings.find(sums_of_floats, {Algorithm::one_shot}, false);
  REQUIRE(timed != nullptr);
  CHECK(timed->sizes == std::vector<TimedSize>{{1024, 2400, 2500}, {4096, 7, 8}});
  CHECK(timings.find(sums_of_floats, {Algorithm::one_shot}, true) == nullptr);
  CHECK(timings.find({Collective::all_reduce, false, true}, {Algorithm::one_shot}, false) == nullptr);
  CHECK(timings.sizes_of(sums_of_floats) == std::vector<std::size_t>{1024, 4096});
}

TEST_CASE("measurements move a crossover, and only for calls of their kind", "[planner][tune]") {
  const Fabric fabric = uniform_fabric(4);
  const Planner by_model(fabric, knowing({}));
  const auto chosen = [](const Planner& planner, PlanRequest request) { return planner.plan(request).choice; };
  REQUIRE(chosen(by_model, sum_of(64 * kib)) == AlgorithmChoice{Algorithm::one_shot});
  REQUIRE(chosen(by_model, sum_of(4 * mib)) == AlgorithmChoice{Algorithm::two_shot});

  Timings timings;
  slow_down(timings, by_model, sums_of_floats, sum_of(64 * kib), {Algorithm::one_shot}, 10);
  slow_down(timings, by_model, sums_of_floats, sum_of(64 * kib), {Algorithm::two_shot}, 1);
  const Planner tuned(fabric, knowing(timings));
  const Plan plan = tuned.plan(sum_of(64 * kib));
  CHECK(plan.choice == AlgorithmChoice{Algorithm::two_shot});
  CHECK(plan.measured);
  CHECK(chosen(tuned, sum_of(kib)) == AlgorithmChoice{Algorithm::two_shot});
  CHECK(chosen(tuned, sum_of(4 * mib)) == AlgorithmChoice{Algorithm::two_shot});

  // Other kernels run the maximum and what travels narrower: nothing was measured of those.
  for (PlanRequest request : {PlanRequest{.count = 32 * kib, .type = DataType::bfloat16, .op = ReduceOp::max},
                              PlanRequest{.count = 32 * kib, .type = DataType::bfloat16, .carried = true}, PlanRequest{.count = 16 * kib, .type = DataType::int32}}) {
    CHECK(chosen(tuned, request) == chosen(by_model, request));
    CHECK_FALSE(tuned.plan(request).measured);
  }
}

TEST_CASE("a slow two-shot hands its sizes back", "[planner][tune]") {
  const Fabric fabric = uniform_fabric(4);
  const Planner by_model(fabric, knowing({}));
  REQUIRE(by_model.plan(sum_of(mib)).choice.algorithm == Algorithm::two_shot);
  Timings timings;
  slow_down(timings, by_model, sums_of_floats, sum_of(mib), {Algorithm::two_shot}, 3);
  slow_down(timings, by_model, sums_of_floats, sum_of(64 * mib), {Algorithm::two_shot}, 1);
  Planner tuned(fabric, knowing({}));
  tuned.learn(timings);
  CHECK(tuned.plan(sum_of(mib)).choice.algorithm == Algorithm::one_shot);
  CHECK(tuned.plan(sum_of(64 * mib)).choice.algorithm == Algorithm::two_shot);
  // Alone, a direct algorithm's lead over others is kept: a little faster is not enough for bits that depend on the size.
  Timings close;
  slow_down(close, by_model, sums_of_floats, sum_of(mib), {Algorithm::ring}, by_model.plan(sum_of(mib)).predicted_us * 0.95 / [&] {
    for (const Plan& plan : by_model.candidates(sum_of(mib)))
      if (plan.choice.algorithm == Algorithm::ring) return plan.predicted_us;
    return 1.0;
  }());
  CHECK(Planner(fabric, knowing(close)).plan(sum_of(mib)).choice.algorithm == Algorithm::two_shot);
}

TEST_CASE("however fast a ring was measured, invariant results are left to the direct algorithms and a forced one is taken", "[planner][tune]") {
  const Fabric fabric = uniform_fabric(4);
  const Planner by_model(fabric, knowing({}));
  Timings timings;
  slow_down(timings, by_model, sums_of_floats, sum_of(mib), {Algorithm::ring}, 0.01);
  REQUIRE(Planner(fabric, knowing(timings)).plan(sum_of(mib)).choice.algorithm == Algorithm::ring);
  PlannerOptions invariant = knowing(timings);
  invariant.invariant = true;
  CHECK(Planner(fabric, invariant).plan(sum_of(mib)).choice.algorithm == Algorithm::two_shot);
  PlannerOptions forced = knowing(timings);
  forced.forced = AlgorithmChoice{Algorithm::binary_tree};
  CHECK(Planner(fabric, forced).plan(sum_of(mib)).choice.algorithm == Algorithm::binary_tree);
}

TEST_CASE("other collectives go by what was measured of them", "[planner][tune]") {
  const Fabric fabric = uniform_fabric(4);
  const Planner by_model(fabric, knowing({}));
  const PlanRequest request{.collective = Collective::all_gather, .count = 64 * kib, .type = DataType::bfloat16};
  const AlgorithmChoice before = by_model.plan(request).choice;
  const CallKind kind = kind_of(request.collective, operation_of(request, by_model.options()));
  Timings timings;
  slow_down(timings, by_model, kind, request, before, 100);
  const Planner tuned(fabric, knowing(timings));
  CHECK(tuned.plan(request).choice != before);
  PlanRequest integers = request;
  integers.type = DataType::int8;
  integers.count *= 2;
  CHECK(tuned.plan(integers).choice != before);  // bits are bits
  CHECK(tuned.plan({.collective = Collective::reduce_scatter, .count = 64 * kib}).choice == by_model.plan({.collective = Collective::reduce_scatter, .count = 64 * kib}).choice);
}

TEST_CASE("planners of one table agree, and those of another are told apart", "[planner][tune]") {
  const Fabric fabric = uniform_fabric(4);
  const Planner one(fabric, knowing(some_timings())), other(fabric, knowing(timings_from_text(to_text(some_timings())))), without(fabric, knowing({}));
  CHECK(one.digest() == other.digest());
  CHECK(one.digest() != without.digest());
  CHECK(one.model_digest() == without.model_digest());
  CHECK(Planner(uniform_fabric(4, 300'000), knowing({})).model_digest() != without.model_digest());
  for (std::size_t bytes = 2; bytes <= 64 * mib; bytes = bytes * 3 + 2) {
    const Plan a = one.plan(sum_of(bytes)), b = other.plan(sum_of(bytes));
    CHECK(a.choice == b.choice);
    CHECK(a.predicted_us == b.predicted_us);
  }
  Timings later = some_timings();
  later.plans[0].sizes[0].measured_ns += 1;
  CHECK(Planner(fabric, knowing(later)).digest() != one.digest());
}

TEST_CASE("a report says what was measured, when, and what is taken at each size", "[planner][tune][explain]") {
  const Fabric fabric = uniform_fabric(4);
  const Planner by_model(fabric, knowing({}));
  CHECK(by_model.explain(sum_of(kib)).explanation.find("tuned") == std::string::npos);
  const Planner tuned(fabric, knowing(some_timings()));
  const PlanReport report = tuned.explain(sum_of(4096));
  CAPTURE(report.explanation);
  CHECK(report.explanation.find("These ranks were tuned at 2026-11-18 11:06 UTC: the times of one_shot, kary_tree:3 through host memory follow from what was measured then") != std::string::npos);
  CHECK(report.explanation.find("   4 KiB  one_shot               2.50         2.60\n") != std::string::npos);
  for (const Candidate& candidate : report.candidates) CHECK(candidate.measured == (candidate.choice == AlgorithmChoice{Algorithm::one_shot}));
  CHECK(tuned.explain(PlanRequest{.count = 1024, .type = DataType::int32}).explanation.find("tuned") == std::string::npos);
}

TEST_CASE("a table of timings survives its text, and no other text is one", "[planner][tune][fuzz]") {
  const Timings timings = some_timings();
  const std::string text = to_text(timings);
  CHECK(timings_from_text(text) == timings);
  CHECK(timings_from_text(to_text({})) == Timings{});
  const auto is_table = [](const std::string& other) {
    try {
      const Timings read = timings_from_text(other);
      for (const TimedPlan& plan : read.plans)
        for (const std::size_t bytes : {std::size_t{1}, 3 * kib, std::size_t{1} << 60})
          if (const double by = plan.correction(bytes); !std::isfinite(by) || by <= 0) throw std::logic_error("a correction that is none");
      return timings_from_text(to_text(read)) == read;
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::invalid_argument);
      return false;
    }
  };
  for (std::size_t length = 0; length < text.size(); ++length) CHECK_FALSE(is_table(text.substr(0, length)));
  for (const char* other : {"", "[]", "null", "{}", "{\"format\":1}", "{\"format\":2,\"taken_at\":1,\"plans\":[]}", "{\"format\":1,\"taken_at\":-1,\"plans\":[]}",
                            "{\"format\":1,\"taken_at\":1,\"plans\":{}}", "{\"format\":1,\"taken_at\":1,\"plans\":[[0,1,1,0,2,0,[]]]}",
                            "{\"format\":1,\"taken_at\":1,\"plans\":[[0,1,1,99,2,0,[[1,1,1]]]]}", "{\"format\":1,\"taken_at\":1,\"plans\":[[0,1,1,0,2,0,[[1,0,1]]]]}",
                            "{\"format\":1,\"taken_at\":1,\"plans\":[[0,1,1,0,2,0,[[1,1,1],[1,1,1]]]]}", "{\"format\":1,\"taken_at\":1,\"plans\":[[0,1,1,0,2,0,[[1,1.5,1]]]]}",
                            "{\"format\":1,\"taken_at\":1,\"plans\":[[0,1,1,0,2,0,[[1,1e300,1]]]]}",
                            "{\"format\":1,\"taken_at\":1,\"plans\":[[0,1,1,0,2,0,[[1,1,1]]],[0,1,1,0,2,0,[[1,1,1]]]]}"}) {
    CAPTURE(other);
    CHECK_FALSE(is_table(other));
  }
  CHECK_FALSE(is_table(std::string(100'000, '[')));
  std::mt19937_64 random(20261122);
  int tables = 0;
  for (int trial = 0; trial < 20'000; ++trial) {
    std::string other = text;
    for (auto changes = 1 + random() % 3; changes > 0; --changes) {
      const auto place = random() % other.size();
      if (random() % 3 == 0)
        other.erase(place, 1 + random() % 8);
      else
        other[place] = "0123456789,[]{}:.-e\"\xff"[random() % 21];
    }
    tables += is_table(other);
  }
  CHECK(tables > 100);  // a figure became another: the cache's checksum is for that
}
