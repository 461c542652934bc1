#include "planner/verify.hpp"

#include <algorithm>
#include <collectives/communicator.hpp>

#include "planner_cases.hpp"
#include "test.hpp"

using namespace collectives;

namespace {

std::vector<Program> programs_of(AlgorithmChoice choice, int ranks) { return lower(build_schedule(choice, ranks)); }

bool is_direct_choice(AlgorithmChoice choice) { return choice.algorithm == Algorithm::one_shot || choice.algorithm == Algorithm::two_shot; }

bool finds(const std::vector<Program>& programs, const SymbolicRun& options) { return !verify(programs, options).empty(); }

}  // namespace

TEST_CASE("every algorithm is right on 2 to 16 ranks, for few and many tiles and stages, on both wires, in place and not",
          "[planner][verify]") {
  const int ranks = GENERATE(from_range(rank_counts()));
  for (const AlgorithmChoice choice : every_algorithm()) {
    const auto programs = programs_of(choice, ranks);
    for (const int tiles : {1, 2, 3, 5, 9})
      for (const int stages : {1, 2, 4})
        for (const Wire wire : {Wire::sentinel, Wire::flagged})
          for (const bool in_place : {false, true}) {
            if (tiles > stages && stages < programs[0].min_stages) continue;
            SymbolicRun options{.tiles = tiles, .stages = stages};
            options.wire = wire;
            options.in_place = in_place;
            options.rank_order = is_direct_choice(choice);
            CAPTURE(ranks, to_string(choice), tiles, stages, name_of(wire), in_place);
            CHECK(verify(programs, options) == "");
          }
  }
}

TEST_CASE("every algorithm is right where senders offer, all of them or some, which needs flags", "[planner][verify]") {
  const int ranks = GENERATE(2, 3, 4, 5, 8, 16);
  for (const AlgorithmChoice choice : every_algorithm())
    for (const auto& places : ways_to_place(ranks)) {
      const auto programs = lower(build_schedule(choice, ranks), places);
      CHECK(programs[0].rows <= max_edges);
      for (const int tiles : {1, 2, 3, 9})
        for (const int stages : {2, 4}) {
          SymbolicRun options{.tiles = tiles, .stages = stages};
          options.in_place = tiles % 2 == 1;
          CAPTURE(ranks, to_string(choice), tiles, stages, programs[0].offers);
          CHECK(verify(programs, options) == "");
          options.wire = Wire::sentinel;
          if (programs[0].offers) CHECK(verify(programs, options) == "what is offered needs flags");
        }
    }
}

TEST_CASE("what is offered is written again only after the credits of all its readers", "[planner][verify]") {
  const int ranks = GENERATE(3, 4, 16);
  const bool common = GENERATE(false, true);
  const std::vector<RankMask> all(static_cast<std::size_t>(ranks), all_of(ranks));
  for (const Algorithm algorithm : {Algorithm::one_shot, Algorithm::two_shot}) {
    const auto programs = lower(build_schedule({algorithm}, ranks), {.common = common ? all : std::vector<RankMask>{}, .offered = all});
    SymbolicRun options{.tiles = 3, .stages = 2};
    CHECK(verify(programs, options) == "");
    for (int rank = 0; rank < ranks; ++rank)
      for (int step = 0; step < static_cast<int>(programs[static_cast<std::size_t>(rank)].steps.size()); ++step) {
        const auto& sends = programs[static_cast<std::size_t>(rank)].steps[static_cast<std::size_t>(step)].sends;
        if (sends.size() < 2) continue;  // what one alone reads may be known to be read by what it sends in turn
        for (int edge = 0; edge < static_cast<int>(sends.size()); ++edge) {
          CAPTURE(ranks, common, static_cast<int>(algorithm), rank, step, edge);
          options.omitted = {.what = Sync::credit_wait, .rank = rank, .step = step, .edge = edge};
          CHECK(finds(programs, options));
        }
      }
  }
}

TEST_CASE("two steps that offer in one row are found, and so is a reader that looks in another", "[planner][verify]") {
  const int ranks = GENERATE(3, 4, 8);
  const std::vector<RankMask> all(static_cast<std::size_t>(ranks), all_of(ranks));
  const auto programs = lower(two_shot_all_reduce(ranks), {.common = all, .offered = all});
  REQUIRE(programs[0].rows == ranks);
  // At both ends, so that they agree: all that rank 0 offers lies where its first step's does.
  auto broken = programs;
  const auto move = [&](std::vector<Edge>& edges, bool sends) {
    for (Edge& edge : edges)
      if (sends || edge.peer == 0) edge.row = programs[0].steps[0].sends[0].row;
  };
  for (Program& program : broken)
    for (Step& step : program.steps) {
      move(step.receives, false);
      if (program.rank == 0) move(step.sends, true);
    }
  CHECK(finds(broken, {}));
  broken = programs;
  Edge& reader = broken[1].steps.back().receives[0];
  reader.row = static_cast<std::uint8_t>((reader.row + 1) % ranks);
  CHECK(finds(broken, {}));
}

TEST_CASE("crews that follow each other are right wherever they fit the verifier, wherever slots lie", "[planner][verify]") {
  const int ranks = GENERATE(range(2, 9));
  int fitted = 0;
  for (const AlgorithmChoice choice : every_algorithm())
    for (const auto& places : ways_to_place(ranks)) {
      const auto programs = lower(build_schedule(choice, ranks), places);
      int rounds = 1;
      for (const Program& program : programs) rounds = std::max(rounds, program.max_delay + 1);
      if (ranks * rounds > max_ranks) continue;
      ++fitted;
      for (const int tiles : {1, 2, 5})
        for (const int stages : {2, 4})
          for (const bool in_place : {false, true}) {
            SymbolicRun options{.tiles = tiles, .stages = stages};
            options.in_place = in_place;
            options.rank_order = is_direct_choice(choice);
            options.crews = true;
            CAPTURE(ranks, to_string(choice), tiles, stages, in_place);
            CHECK(verify(programs, options) == "");
          }
    }
  CHECK(fitted > 0);
}

TEST_CASE("crews that do not follow each other overwrite what another has yet to send, and those that are not told wait for ever", "[planner][verify]") {
  const int ranks = GENERATE(2, 3, 5);
  const bool in_place = GENERATE(false, true);
  const auto programs = programs_of({Algorithm::one_shot}, ranks);
  SymbolicRun options;
  options.crews = true;
  options.in_place = in_place;
  for (int rank = 0; rank < ranks; ++rank) {
    options.omitted = {.what = Sync::crew_wait, .rank = rank};
    if (in_place) CHECK_THAT(verify(programs, options), ContainsSubstring("its own memory"));
    if (!in_place) CHECK(verify(programs, options) == "");  // an input that stays as it is need not be waited for
    options.omitted.what = Sync::crew_signal;
    CHECK_THAT(verify(programs, options), ContainsSubstring("deadlock"));
  }
}

TEST_CASE("calls that offer and calls that push take turns in the same slots", "[planner][verify]") {
  const int ranks = GENERATE(2, 3, 5);
  const auto ways = ways_to_place(ranks);
  std::vector<std::vector<Program>> turns;
  for (const AlgorithmChoice choice : {AlgorithmChoice{Algorithm::one_shot}, AlgorithmChoice{Algorithm::ring}, AlgorithmChoice{Algorithm::binary_tree}})
    for (const auto& places : ways) turns.push_back(lower(build_schedule(choice, ranks), places));
  SymbolicRun options{.tiles = 3, .stages = 2, .calls = 2 * static_cast<int>(turns.size())};
  CHECK(verify_in_turn(turns, options) == "");
  options.halves = 1;
  CHECK(verify_in_turn(turns, options) != "");
}

TEST_CASE("one stage for several tiles deadlocks, which is what min_stages warns of", "[planner][verify]") {
  const int ranks = GENERATE(2, 3, 16);
  for (const AlgorithmChoice choice : every_algorithm()) {
    CAPTURE(ranks, to_string(choice));
    CHECK_THAT(verify(programs_of(choice, ranks), {.tiles = 3, .stages = 1}), ContainsSubstring("deadlock"));
  }
}

TEST_CASE("rings and trees do not combine in one step in the order of the ranks, and the check for it sees that", "[planner][verify]") {
  for (const AlgorithmChoice choice : every_algorithm()) {
    // With arity 15 the root hears everyone at once.
    if (is_direct_choice(choice) || choice.arity == 15) continue;
    SymbolicRun options;
    options.rank_order = true;
    CAPTURE(to_string(choice));
    CHECK_THAT(verify(programs_of(choice, 6), options), ContainsSubstring("order of the ranks"));
  }
}

TEST_CASE("ranks that combine in different orders are found", "[planner][verify]") {
  // Rank 0 has (0+1)+2, rank 1 has 0+1+2 in one step.
  const Schedule schedule{
      .ranks = 3,
      .chunks = 1,
      .rounds = {{{Action::reduce, 0, 1, 0}, {Action::reduce, 0, 0, 1}, {Action::reduce, 0, 2, 1}, {Action::reduce, 0, 0, 2}},
                 {{Action::reduce, 0, 2, 0}, {Action::reduce, 0, 1, 2}}}};
  CHECK(finds(lower(schedule), {}));
  const Schedule fixed = one_shot_all_reduce(3);
  CHECK_FALSE(finds(lower(fixed), {}));
  auto swapped = lower(fixed);
  std::reverse(swapped[1].steps[1].receives.begin(), swapped[1].steps[1].receives.end());
  CHECK_THAT(verify(swapped), ContainsSubstring("another order"));
}

TEST_CASE("a schedule without one of its transfers does not verify", "[planner][verify]") {
  const int ranks = GENERATE(2, 3, 5, 8);
  for (const AlgorithmChoice choice : every_algorithm()) {
    const Schedule whole = build_schedule(choice, ranks);
    for (std::size_t round = 0; round < whole.rounds.size(); ++round)
      for (std::size_t transfer = 0; transfer < whole.rounds[round].size(); ++transfer) {
        Schedule broken = whole;
        broken.rounds[round].erase(broken.rounds[round].begin() + static_cast<std::ptrdiff_t>(transfer));
        CAPTURE(ranks, to_string(choice), round, transfer);
        CHECK(finds(lower(broken), {}));
      }
  }
}

TEST_CASE("a single half of slots is overwritten by the next call", "[planner][verify]") {
  const int ranks = GENERATE(2, 3, 5, 16);
  for (const AlgorithmChoice choice : every_algorithm()) {
    SymbolicRun options{.tiles = 1, .stages = 1};
    options.halves = 1;
    options.wire = Wire::sentinel;
    CAPTURE(ranks, to_string(choice));
    CHECK_THAT(verify(programs_of(choice, ranks), options), ContainsSubstring("call 1") || ContainsSubstring("call 2"));
  }
  // On the flagged wire the data of the next call itself tells the writer that the reader is done, but for one-shot.
  SymbolicRun flagged;
  flagged.halves = 1;
  CHECK_THAT(verify(programs_of({Algorithm::one_shot}, ranks), flagged), ContainsSubstring("may be reading"));
}

TEST_CASE("without headers a slot is written again before its reader is known to be done", "[planner][verify]") {
  const int ranks = GENERATE(2, 3, 5, 16);
  for (const AlgorithmChoice choice : every_algorithm()) {
    SymbolicRun options{.tiles = 2, .stages = 2};
    options.wire = Wire::sentinel;
    CAPTURE(ranks, to_string(choice));
    CHECK_FALSE(finds(programs_of(choice, ranks), options));
    options.headers = false;
    CHECK(finds(programs_of(choice, ranks), options));
  }
}

TEST_CASE("a missing wait for credit or data is found", "[planner][verify]") {
  const int ranks = GENERATE(2, 3, 5, 16);
  const Wire wire = GENERATE(Wire::sentinel, Wire::flagged);
  for (const AlgorithmChoice choice : every_algorithm()) {
    const auto programs = programs_of(choice, ranks);
    CAPTURE(ranks, to_string(choice), name_of(wire));
    SymbolicRun options;
    options.wire = wire;
    options.omitted = {.what = Sync::credit_wait};
    CHECK(finds(programs, options));
    options.tiles = options.stages;  // no credits are needed here, so leaving them out is no fault
    CHECK_FALSE(finds(programs, options));
    options.omitted = {.what = Sync::data_wait};
    CHECK(finds(programs, options));
  }
}

TEST_CASE("steps in the wrong order deadlock or read too late", "[planner][verify]") {
  // All ranks wait for each other before anyone has sent.
  auto programs = programs_of({Algorithm::one_shot}, 3);
  for (Program& program : programs) {
    std::swap(program.steps[0], program.steps[1]);
    std::swap(program.steps[0].delay, program.steps[1].delay);
  }
  CHECK_THAT(verify(programs, {.tiles = 1, .stages = 1}), ContainsSubstring("deadlock"));

  // Rank 0 stores its result in place before it has sent its input.
  programs = programs_of({Algorithm::one_shot}, 2);
  std::swap(programs[0].steps[0], programs[0].steps[1]);
  std::swap(programs[0].steps[0].delay, programs[0].steps[1].delay);
  SymbolicRun options{.tiles = 1, .stages = 1};
  CHECK_FALSE(finds(programs, options));
  options.in_place = true;
  CHECK_THAT(verify(programs, options), ContainsSubstring("overwritten in place"));
}

TEST_CASE("a step on the wrong lane is found", "[planner][verify]") {
  auto programs = programs_of({Algorithm::ring}, 4);
  for (Step& step : programs[1].steps)
    for (Edge& edge : step.sends) edge.lane = static_cast<std::uint8_t>((edge.lane + 1) % programs[1].lanes);
  CHECK(finds(programs, {}));
}

TEST_CASE("what cannot be run is refused with a reason", "[planner][verify]") {
  const auto good = programs_of({Algorithm::two_shot}, 3);
  CHECK_THAT(verify({}), ContainsSubstring("1 to 16"));
  CHECK_THAT(verify(good, {.tiles = 0}), ContainsSubstring("at least 1"));
  const auto broken = [&](auto&& change) {
    auto programs = good;
    change(programs[1]);
    return verify(programs);
  };
  CHECK_THAT(broken([](Program& p) { p.rank = 2; }), ContainsSubstring("another rank"));
  CHECK_THAT(broken([](Program& p) { p.lanes += 1; }), ContainsSubstring("layout"));
  CHECK_THAT(broken([](Program& p) { p.steps[0].chunk = 3; }), ContainsSubstring("chunk is out of bounds"));
  CHECK_THAT(broken([](Program& p) { p.steps[0].delay = 3; }), ContainsSubstring("delay is out of bounds"));
  CHECK_THAT(broken([](Program& p) { p.steps[0].sends[0].peer = 3; }), ContainsSubstring("peer is out of bounds"));
  CHECK_THAT(broken([](Program& p) { p.steps[0].sends[0].lane = 9; }), ContainsSubstring("lane is out of bounds"));
  CHECK_THAT(broken([](Program& p) { p.steps[0].sends[0].credit = 9; }), ContainsSubstring("credit is out of bounds"));
  CHECK_THAT(broken([](Program& p) { p.steps[0].sends[0].row = 9; }), ContainsSubstring("row of slots is out of bounds"));
  CHECK_THAT(broken([](Program& p) { p.steps[0].sends[0].offered = true; }), ContainsSubstring("offers nothing"));
  SymbolicRun many;
  many.crews = true;
  CHECK_THAT(verify(programs_of({Algorithm::two_shot}, 6), many), ContainsSubstring("crews"));
}
