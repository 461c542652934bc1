// Every collective but the all-reduce, as schedules: proved for every rank count, root, wire and place.
#include <collectives/error.hpp>

#include "planner/verify.hpp"
#include "planner_cases.hpp"
#include "test.hpp"

using namespace collectives;

namespace {

constexpr Collective others[] = {Collective::reduce_scatter, Collective::all_gather, Collective::broadcast, Collective::reduce,
                                 Collective::all_to_all,     Collective::gather,     Collective::scatter,   Collective::exchange};

std::vector<int> roots_of(Collective collective, int ranks) {
  if (!has_root(collective)) return {0};
  return ranks < 3 ? std::vector<int>{0, 1} : std::vector<int>{0, 1, ranks - 1};
}

bool in_rank_order(AlgorithmChoice choice) { return choice.algorithm == Algorithm::one_shot || choice.algorithm == Algorithm::two_shot; }

}  // namespace

TEST_CASE("every collective's schedules give every taker every giver's input once, on 2 to 16 ranks", "[planner][verify][collectives]") {
  const int ranks = GENERATE(from_range(rank_counts()));
  for (const Collective collective : others)
    for (const AlgorithmChoice choice : algorithms_of(collective))
      for (const int root : roots_of(collective, ranks)) {
        const auto programs = lower(build_schedule(collective, choice, ranks, root));
        for (const int tiles : {1, 2, 5})
          for (const Wire wire : {Wire::sentinel, Wire::flagged})
            for (const bool in_place : {false, true}) {
              SymbolicRun options{.tiles = tiles, .stages = programs[0].min_stages};
              options.wire = wire;
              options.in_place = in_place;
              options.rank_order = in_rank_order(choice);
              CAPTURE(name_of(collective), to_string(choice), ranks, root, tiles, name_of(wire), in_place);
              CHECK(verify(programs, options) == "");
            }
      }
}

TEST_CASE("what goes to whom is what the collective says", "[planner][collectives]") {
  const int ranks = GENERATE(2, 5, 16);
  const int root = ranks - 1;
  const auto of = [&](Collective collective) { return lower(build_schedule(collective, algorithms_of(collective)[0], ranks, root))[0]; };
  const auto every = all_of(ranks), alone = mask_of(root);
  CHECK(of(Collective::broadcast).givers == std::vector<RankMask>{alone});
  CHECK(of(Collective::broadcast).takers == std::vector<RankMask>{every});
  CHECK(of(Collective::reduce).givers == std::vector<RankMask>{every});
  CHECK(of(Collective::reduce).takers == std::vector<RankMask>{alone});
  for (int chunk = 0; chunk < ranks; ++chunk) {
    const auto c = static_cast<std::size_t>(chunk);
    CHECK((of(Collective::all_gather).givers[c] == mask_of(chunk) && of(Collective::all_gather).takers[c] == every));
    CHECK((of(Collective::reduce_scatter).givers[c] == every && of(Collective::reduce_scatter).takers[c] == mask_of(chunk)));
    CHECK((of(Collective::gather).givers[c] == mask_of(chunk) && of(Collective::gather).takers[c] == alone));
    CHECK((of(Collective::scatter).givers[c] == alone && of(Collective::scatter).takers[c] == mask_of(chunk)));
  }
  const Program pairs = of(Collective::all_to_all);
  for (int from = 0; from < ranks; ++from)
    for (int to = 0; to < ranks; ++to) {
      const auto chunk = static_cast<std::size_t>(from * ranks + to);
      CHECK((pairs.givers[chunk] == mask_of(from) && pairs.takers[chunk] == mask_of(to)));
    }
}

TEST_CASE("a collective without one of its transfers, or that keeps what is not asked for, does not verify", "[planner][verify][collectives]") {
  const int ranks = GENERATE(2, 3, 6);
  for (const Collective collective : others)
    for (const AlgorithmChoice choice : algorithms_of(collective)) {
      const Schedule whole = build_schedule(collective, choice, ranks, ranks - 1);
      const auto refused = [](const Schedule& schedule) {
        try {
          return !verify(lower(schedule)).empty();
        } catch (const Error&) {
          return true;
        }
      };
      CHECK_FALSE(refused(whole));
      for (std::size_t round = 0; round < whole.rounds.size(); ++round)
        for (std::size_t transfer = 0; transfer < whole.rounds[round].size(); ++transfer) {
          CAPTURE(name_of(collective), to_string(choice), ranks, round, transfer);
          Schedule broken = whole;
          broken.rounds[round].erase(broken.rounds[round].begin() + static_cast<std::ptrdiff_t>(transfer));
          CHECK(refused(broken));
          // A rank that has no place for the chunk keeps it.
          auto programs = lower(whole);
          const auto chunk = static_cast<std::size_t>(whole.rounds[round][transfer].chunk);
          for (Program& program : programs) program.takers[chunk] &= program.takers[chunk] - 1;
          CHECK_THAT(verify(programs), ContainsSubstring("no place for"));
        }
    }
}

TEST_CASE("any collective may follow any other, and flags that do not alternate are found out", "[planner][verify][collectives]") {
  const int ranks = GENERATE(2, 3, 5, 8);
  std::vector<std::vector<Program>> all;
  for (int collective = 0; collective < collective_count; ++collective)
    for (const AlgorithmChoice choice : algorithms_of(static_cast<Collective>(collective)))
      if (choice.algorithm < Algorithm::packed_trees)  // the rest is built for a fabric
        all.push_back(lower(build_schedule(static_cast<Collective>(collective), choice, ranks, has_root(static_cast<Collective>(collective)) ? ranks - 1 : 0)));
  int found = 0;
  for (const auto& first : all)
    for (const auto& second : all)
      for (const Wire wire : {Wire::flagged, Wire::sentinel}) {
        SymbolicRun options{.tiles = 3, .stages = 2, .calls = 5};
        options.wire = wire;
        CAPTURE(ranks, name_of(wire));
        CHECK(verify_in_turn({first, second}, options) == "");
        options.flag_halves = 1;
        found += !verify_in_turn({first, second}, options).empty();
      }
  if (ranks > 2) CHECK(found > 0);
}

TEST_CASE("a rank that gives nothing is never asked for its input", "[planner][program][collectives]") {
  for (const Collective collective : others)
    for (const AlgorithmChoice choice : algorithms_of(collective))
      for (const Program& program : lower(build_schedule(collective, choice, 7, 3)))
        for (const Step& step : program.steps) {
          CAPTURE(name_of(collective), to_string(choice), program.rank, step.chunk);
          if (step.own == Own::input) CHECK((program.givers[step.chunk] & mask_of(program.rank)) != 0);
          if (step.store) CHECK((program.takers[step.chunk] & mask_of(program.rank)) != 0);
        }
}

TEST_CASE("a chunk that its sender does not have, or lists of another length, are refused", "[planner][program][collectives]") {
  Schedule schedule = one_shot_broadcast(3, 1);
  schedule.rounds[0].push_back({Action::copy, 0, 2, 0});
  CHECK_THROWS_WITH(lower(schedule), ContainsSubstring("neither gives nor has received"));
  schedule = one_shot_broadcast(3, 1);
  schedule.givers.push_back(1);
  CHECK_THROWS_WITH(lower(schedule), ContainsSubstring("givers and takers for each"));
  CHECK_THROWS_AS(build_schedule(Collective::gather, {Algorithm::ring}, 4, 0), Error);
  CHECK_THROWS_AS(build_schedule(Collective::gather, {Algorithm::one_shot}, 4, 4), Error);
  CHECK_THROWS_AS(build_schedule(Collective::gather, {Algorithm::one_shot}, 17, 0), Error);
}
