// Chunks of any relative size, on host threads: every schedule there is, cut at random.
#include <deque>
#include <random>

#include "planner/verify.hpp"
#include "planner_cases.hpp"
#include "team.hpp"
#include "test.hpp"
#include "trial.hpp"

using namespace collectives;

namespace {

std::vector<std::uint32_t> random_weights(std::mt19937& random, int chunks) {
  std::vector<std::uint32_t> weights;
  for (int chunk = 0; chunk < chunks; ++chunk) weights.push_back(random() % 4 == 0 ? 0 : random() % (random() % 2 == 0 ? 10 : 100'000));
  weights[random() % weights.size()] += 1;
  return weights;
}

/// A one-chunk schedule as several, each with a message of its own: what channels are.
Schedule doubled(const Schedule& one) {
  Schedule two = one;
  two.chunks = 2 * one.chunks;
  for (auto& round : two.rounds) {
    const auto transfers = round;
    for (Transfer transfer : transfers) {
      transfer.chunk += one.chunks;
      round.push_back(transfer);
    }
  }
  return two;
}

std::size_t wrong_elements(Team& team, const std::vector<Program>& programs, Plan plan, const Trial& trial) {
  const int ranks = programs[0].ranks;
  std::vector<std::vector<std::byte>> in, out;
  std::vector<Call> calls;
  for (int rank = 0; rank < ranks; ++rank) {
    in.push_back(operand_bytes(trial, rank, trial.count));
    out.push_back(trial.in_place ? in.back() : std::vector<std::byte>(in.back().size(), std::byte{0xa5}));
  }
  for (std::size_t rank = 0; rank < in.size(); ++rank)
    calls.push_back({.in = trial.in_place ? out[rank].data() : in[rank].data(), .out = out[rank].data(), .count = trial.count, .type = trial.type, .op = trial.op});
  team.run(calls, plan, programs);
  const auto expected = expected_bytes(trial, ranks, trial.count);
  std::size_t wrong = 0;
  for (const auto& result : out)
    for (std::size_t i = 0; i < expected.size(); ++i) wrong += result[i] != expected[i];
  return wrong;
}

/// A plan that moves the longest chunk in `tiles` tiles.
Plan plan_of(const std::vector<Program>& programs, const Trial& trial, std::size_t tiles, int stages, Wire wire) {
  const std::size_t packs = (trial.count * size_of(trial.type) + 15) / 16;
  Plan plan;
  plan.wire = wire;
  plan.bytes = trial.count * size_of(trial.type);
  plan.tile_bytes = (longest_chunk(programs[0], packs) + tiles - 1) / tiles * 16;
  plan.stages = stages;
  return plan;
}

}  // namespace

TEST_CASE("chunks of a message meet without gaps, whatever their weights", "[planner][weights]") {
  std::mt19937 random(7);
  for (int trial = 0; trial < 200; ++trial) {
    Schedule schedule = build_schedule({Algorithm::two_shot}, 2 + trial % 15);
    schedule.weights = random_weights(random, schedule.chunks);
    const Program program = lower(schedule)[0];
    const std::size_t packs = trial % 3 == 0 ? random() % 20 : trial % 3 == 1 ? random() % 100'000 : (std::size_t{1} << 58) + random();
    CAPTURE(schedule.weights, packs);
    double total = 0;
    for (const std::uint32_t weight : schedule.weights) total += weight;
    CHECK(chunk_begin(program, packs, 0) == 0);
    CHECK(chunk_begin(program, packs, program.chunks) == packs);
    for (int chunk = 0; chunk < program.chunks; ++chunk) {
      REQUIRE(chunk_begin(program, packs, chunk) <= chunk_begin(program, packs, chunk + 1));
      const auto length = static_cast<double>(chunk_begin(program, packs, chunk + 1) - chunk_begin(program, packs, chunk));
      const double share = schedule.weights[static_cast<std::size_t>(chunk)] / total * static_cast<double>(packs);
      CHECK(std::abs(length - share) <= 1 + share * 1e-9);
      CHECK(length <= static_cast<double>(longest_chunk(program, packs)));
    }
  }
}

TEST_CASE("equal weights are no weights", "[planner][weights]") {
  for (const AlgorithmChoice choice : every_algorithm()) {
    Schedule schedule = build_schedule(choice, 5);
    const Program plain = lower(schedule)[3];
    schedule.weights.assign(static_cast<std::size_t>(schedule.chunks), 7);
    const Program weighted = lower(schedule)[3];
    for (const std::size_t packs : {0u, 1u, 4u, 5u, 99u, 1000u})
      for (int chunk = 0; chunk <= plain.chunks; ++chunk) CHECK(chunk_begin(plain, packs, chunk) == chunk_begin(weighted, packs, chunk));
  }
}

TEST_CASE("weights that are no weights are refused", "[planner][weights]") {
  Schedule schedule = build_schedule({Algorithm::two_shot}, 3);
  schedule.weights = {1, 2};
  CHECK_THROWS_WITH(lower(schedule), ContainsSubstring("for each of its chunks"));
  schedule.weights = {0, 0, 0};
  CHECK_THROWS_WITH(lower(schedule), ContainsSubstring("2^32 - 1"));
  schedule.weights = {0x80000000u, 0x80000000u, 0};
  CHECK_THROWS_WITH(lower(schedule), ContainsSubstring("2^32 - 1"));
  schedule.weights = {0x80000000u, 0x7fffffffu, 0};
  CHECK_NOTHROW(lower(schedule));
}

TEST_CASE("every schedule is exact with chunks of random weights, on host threads", "[exec][weights]") {
#if defined(__SANITIZE_THREAD__)
  const std::vector<std::size_t> counts = {31, 4099};
#else
  const std::vector<std::size_t> counts = {1, 2, 31, 257, 4099, 30'011};
#endif
  std::mt19937 random(11);
  const int ranks = GENERATE(2, 3, 5, 8, 16);
  std::deque<std::vector<Program>> kept;  // outlives the executors
  Team team(ranks, layout_of(std::size_t{4} << 20));
  std::uint64_t seed = 0;
  for (const AlgorithmChoice choice : every_algorithm())
    for (const bool channels : {false, true}) {
      Schedule schedule = build_schedule(choice, ranks);
      if (channels && schedule.chunks > 1) continue;  // what is cut by rank has as many chunks as lanes allow
      if (channels) schedule = doubled(schedule);
      schedule.weights = random_weights(random, schedule.chunks);
      const auto& programs = kept.emplace_back(lower(schedule));
      for (const std::size_t count : counts)
        for (const Wire wire : {Wire::flagged, Wire::sentinel}) {
          ++seed;
          const Trial trial{seed % 3 == 0 ? DataType::float32 : DataType::bfloat16, static_cast<ReduceOp>(seed % reduce_op_count), count, seed % 2 == 0, 0, seed};
          const std::size_t tiles = seed % 4 == 0 ? 1 : seed % 4 == 1 ? 2 : 5;
          CAPTURE(to_string(choice), channels, schedule.weights, count, name_of(wire), tiles, seed);
          CHECK(wrong_elements(team, programs, plan_of(programs, trial, tiles, tiles == 1 ? 1 : 2, wire), trial) == 0);
        }
    }
}
