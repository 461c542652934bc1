#include "planner/program.hpp"

#include <collectives/error.hpp>
#include <map>
#include <set>

#include "planner/verify.hpp"
#include "planner_cases.hpp"
#include "test.hpp"

using namespace collectives;

namespace {

std::vector<int> peers(const std::vector<Edge>& edges) {
  std::vector<int> found;
  for (const Edge& edge : edges) found.push_back(edge.peer);
  return found;
}

}  // namespace

TEST_CASE("every transfer has a lane and a credit word of its own, and both ends agree", "[planner][program]") {
  const int ranks = GENERATE(range(2, 17));
  for (const AlgorithmChoice choice : every_algorithm()) {
    CAPTURE(ranks, to_string(choice));
    const auto programs = lower(build_schedule(choice, ranks));
    std::set<std::tuple<int, int, int, int, int>> sent, received;  // from, to, lane, credit, chunk
    std::set<std::pair<int, int>> lanes, credits;
    for (const Program& program : programs)
      for (const Step& step : program.steps) {
        for (const Edge& edge : step.sends) {
          sent.insert({program.rank, edge.peer, edge.lane, edge.credit, step.chunk});
          CHECK(lanes.insert({edge.peer, edge.lane}).second);
          CHECK(credits.insert({program.rank, edge.credit}).second);
          CHECK(edge.lane < program.lanes);
          CHECK(edge.credit < program.credits);
        }
        for (const Edge& edge : step.receives) received.insert({edge.peer, program.rank, edge.lane, edge.credit, step.chunk});
      }
    CHECK(sent == received);
    std::size_t transfers = 0;
    for (const auto& round : build_schedule(choice, ranks).rounds) transfers += round.size();
    CHECK(sent.size() == transfers);
  }
}

TEST_CASE("what a step offers in one memory has a row of its own, which all its receivers know", "[planner][program]") {
  const int ranks = GENERATE(range(2, 17));
  for (const AlgorithmChoice choice : every_algorithm())
    for (const auto& places : ways_to_place(ranks)) {
      CAPTURE(ranks, to_string(choice));
      const auto programs = lower(build_schedule(choice, ranks), places);
      std::map<std::pair<int, int>, const Step*> writers;  // by owner of the slots and row
      for (const Program& program : programs)
        for (const Step& step : program.steps)
          for (std::size_t send = 0; send < step.sends.size(); ++send) {
            const Edge& edge = step.sends[send];
            CHECK(edge.row < program.rows);
            const Step*& writer = writers[{edge.offered ? program.rank : edge.peer, edge.row}];
            CHECK((writer == nullptr) == !repeats(step, send));
            CHECK((writer == nullptr || writer == &step));
            writer = &step;
          }
      for (const Program& program : programs)
        for (const Step& step : program.steps)
          for (const Edge& edge : step.receives) {
            const auto found = writers.find({edge.offered ? edge.peer : program.rank, edge.row});
            REQUIRE(found != writers.end());
            CHECK(found->second->chunk == step.chunk);
          }
    }
}

TEST_CASE("a rank's rows are numbered through its two memories, for they may be one", "[planner][program]") {
  const auto rows = [](const Schedule& schedule, const SlotPlaces& places) { return lower(schedule, places)[0].rows; };
  const std::vector<RankMask> all(4, all_of(4)), other_island{0b1100, 0b1100, 0b0011, 0b0011};
  CHECK(rows(one_shot_all_reduce(4), {}) == 3);
  CHECK(rows(one_shot_all_reduce(4), {.common = all, .offered = {}}) == 3);
  CHECK(rows(one_shot_all_reduce(4), {.common = all, .offered = all}) == 1);
  CHECK(rows(two_shot_all_reduce(4), {}) == 6);
  CHECK(rows(two_shot_all_reduce(4), {.common = all, .offered = all}) == 4);
  // Two islands of two: two chunks and a total for the other island in common memory, and two arrivals from the neighbour in the pool.
  CHECK(rows(two_shot_all_reduce(4), {.common = other_island, .offered = other_island}) == 5);
  CHECK(rows(one_shot_all_reduce(4), {.common = other_island, .offered = {}}) == 3);
}

TEST_CASE("programs stay within the limits that kernels are built for", "[planner][program]") {
  for (const int ranks : {2, 3, 15, 16})
    for (const AlgorithmChoice choice : every_algorithm())
      for (const Program& program : lower(build_schedule(choice, ranks))) {
        CAPTURE(ranks, to_string(choice), program.rank);
        CHECK(program.steps.size() <= max_steps);
        CHECK(program.lanes <= max_lanes);
        CHECK(program.credits <= max_lanes);
        CHECK(program.min_stages == 2);
        CHECK(program.max_delay <= 2 * (ranks - 1));
        for (std::size_t i = 1; i < program.steps.size(); ++i) CHECK(program.steps[i - 1].delay <= program.steps[i].delay);
      }
}

TEST_CASE("one-shot sends its input to the next ranks first and reduces all of them in one step", "[planner][program]") {
  const auto programs = lower(build_schedule({Algorithm::one_shot}, 4));
  const Program& program = programs[2];
  REQUIRE(program.steps.size() == 2);
  const Step& push = program.steps[0];
  CHECK(push.own == Own::input);
  CHECK(push.receives.empty());
  CHECK(peers(push.sends) == std::vector<int>{3, 0, 1});
  CHECK_FALSE(push.store);
  CHECK_FALSE(push.complete);
  CHECK(push.delay == 0);
  const Step& reduce = program.steps[1];
  CHECK(reduce.own == Own::input);
  CHECK(peers(reduce.receives) == std::vector<int>{0, 1, 3});
  CHECK(reduce.sends.empty());
  CHECK(reduce.store);
  CHECK(reduce.complete);
  CHECK(reduce.delay == 1);
}

TEST_CASE("two-shot scatters from the next rank on, reduces its own chunk once and takes the others", "[planner][program]") {
  const auto programs = lower(build_schedule({Algorithm::two_shot}, 3));
  const Program& program = programs[1];
  REQUIRE(program.steps.size() == 5);
  CHECK(program.steps[0].chunk == 2);
  CHECK(program.steps[1].chunk == 0);
  for (int i = 0; i < 2; ++i) {
    CHECK(program.steps[static_cast<std::size_t>(i)].own == Own::input);
    CHECK(peers(program.steps[static_cast<std::size_t>(i)].sends) == std::vector<int>{program.steps[static_cast<std::size_t>(i)].chunk});
  }
  CHECK(program.steps[2].chunk == 1);
  CHECK(program.steps[2].complete);
  CHECK(program.steps[2].store);
  CHECK(peers(program.steps[2].receives) == std::vector<int>{0, 2});
  CHECK(peers(program.steps[2].sends) == std::vector<int>{2, 0});
  for (std::size_t i = 3; i < 5; ++i) {
    CHECK(program.steps[i].own == Own::none);
    CHECK(program.steps[i].store);
    CHECK_FALSE(program.steps[i].complete);
    CHECK(program.steps[i].delay == 2);
  }
}

TEST_CASE("a rank that only passes a partial on does not store it", "[planner][program]") {
  for (const AlgorithmChoice choice : every_algorithm())
    for (const Program& program : lower(build_schedule(choice, 7))) {
      std::vector<int> stores(static_cast<std::size_t>(program.chunks), 0);
      for (const Step& step : program.steps) stores[step.chunk] += step.store ? 1 : 0;
      CAPTURE(to_string(choice), program.rank);
      for (const int times : stores) CHECK(times == 1);
    }
}

TEST_CASE("a value that is sent and combined again passes through the output", "[planner][program]") {
  // Recursive doubling on four ranks: both partners of a round send and combine.
  Schedule schedule{.ranks = 4, .chunks = 1, .rounds = {{}, {}}};
  for (int rank = 0; rank < 4; ++rank) {
    schedule.rounds[0].push_back({Action::reduce, 0, rank, rank ^ 1});
    schedule.rounds[1].push_back({Action::reduce, 0, rank, rank ^ 2});
  }
  const auto programs = lower(schedule);
  REQUIRE(programs[0].steps.size() == 3);
  CHECK(programs[0].steps[1].store);
  CHECK(programs[0].steps[1].sends.size() == 1);
  CHECK_FALSE(programs[0].steps[1].complete);
  CHECK(programs[0].steps[2].own == Own::output);
  CHECK(programs[0].steps[2].complete);
  // Pair sums meet in the order of the sender, so rank 2 adds (0+1) to its own (2+3) as rank 0 adds (2+3) to its own.
  for (const bool in_place : {false, true}) {
    SymbolicRun options;
    options.in_place = in_place;
    CHECK(verify(programs, options) == "");
  }
}

TEST_CASE("receives of several rounds that are not sent on between are one step", "[planner][program]") {
  // Rank 0 hears 1, then 2, then tells both.
  const Schedule schedule{
      .ranks = 3,
      .chunks = 1,
      .rounds = {{{Action::reduce, 0, 1, 0}}, {{Action::reduce, 0, 2, 0}}, {{Action::copy, 0, 0, 1}, {Action::copy, 0, 0, 2}}}};
  const auto programs = lower(schedule);
  REQUIRE(programs[0].steps.size() == 1);
  CHECK(peers(programs[0].steps[0].receives) == std::vector<int>{1, 2});
  CHECK(programs[0].steps[0].delay == 2);
  CHECK(programs[0].steps[0].complete);
  CHECK(programs[0].min_stages == 3);
  SymbolicRun options{.tiles = 7, .stages = 3};
  options.rank_order = true;
  CHECK(verify(programs, options) == "");
}

TEST_CASE("lowering refuses schedules that are out of range or too large", "[planner][program]") {
  const auto with = [](Transfer transfer) { return Schedule{.ranks = 3, .chunks = 2, .rounds = {{transfer}}}; };
  CHECK_NOTHROW(lower(with({Action::reduce, 1, 0, 2})));
  CHECK_THROWS_AS(lower(with({Action::reduce, 2, 0, 1})), Error);
  CHECK_THROWS_AS(lower(with({Action::reduce, -1, 0, 1})), Error);
  CHECK_THROWS_AS(lower(with({Action::reduce, 0, 0, 3})), Error);
  CHECK_THROWS_AS(lower(with({Action::reduce, 0, -1, 1})), Error);
  CHECK_THROWS_AS(lower(with({Action::reduce, 0, 1, 1})), Error);
  CHECK_THROWS_AS(lower(Schedule{.ranks = 0, .chunks = 1, .rounds = {}}), Error);
  CHECK_THROWS_AS(lower(Schedule{.ranks = 17, .chunks = 1, .rounds = {}}), Error);
  const Schedule both{.ranks = 3, .chunks = 1, .rounds = {{{Action::copy, 0, 0, 2}, {Action::reduce, 0, 1, 2}}}};
  CHECK_THROWS_WITH(lower(both), ContainsSubstring("receives nothing else"));
  const auto back_and_forth = [](int rounds) {
    Schedule schedule{.ranks = 2, .chunks = 1, .rounds = {}};
    for (int round = 0; round < rounds; ++round) schedule.rounds.push_back({{Action::copy, 0, round % 2, 1 - round % 2}});
    return schedule;
  };
  CHECK_NOTHROW(lower(back_and_forth(60)));
  CHECK_THROWS_WITH(lower(back_and_forth(80)), ContainsSubstring("more transfers than lanes"));
  // A step to send each chunk and one to receive it.
  const auto swap_chunks = [](int chunks) {
    Schedule schedule{.ranks = 2, .chunks = chunks, .rounds = {{}}};
    for (int chunk = 0; chunk < chunks; ++chunk)
      for (const int from : {0, 1}) schedule.rounds[0].push_back({Action::reduce, chunk, from, 1 - from});
    return schedule;
  };
  CHECK_NOTHROW(lower(swap_chunks(16)));
  CHECK_THROWS_WITH(lower(swap_chunks(17)), ContainsSubstring("34 steps"));
}
