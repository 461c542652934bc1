#include "planner/schedule.hpp"

#include <collectives/error.hpp>
#include <map>
#include <set>

#include "planner_cases.hpp"
#include "test.hpp"

using namespace collectives;

namespace {

// What every rank holds of every chunk, played as the comment on Schedule says: how often each rank's input is in it.
using Holdings = std::map<std::pair<int, int>, std::map<int, int>>;

Holdings play(const Schedule& schedule) {
  Holdings held;
  for (int rank = 0; rank < schedule.ranks; ++rank)
    for (int chunk = 0; chunk < schedule.chunks; ++chunk) held[{rank, chunk}][rank] = 1;
  for (const auto& round : schedule.rounds) {
    const Holdings before = held;
    for (const Transfer& transfer : round) {
      const auto& sent = before.at({transfer.from, transfer.chunk});
      auto& taker = held[{transfer.to, transfer.chunk}];
      if (transfer.action == Action::copy) taker.clear();
      for (const auto& [rank, times] : sent) taker[rank] += times;
    }
  }
  return held;
}

bool is_all_reduce(const Schedule& schedule) {
  for (const auto& [where, inputs] : play(schedule)) {
    if (static_cast<int>(inputs.size()) != schedule.ranks) return false;
    for (const auto& [rank, times] : inputs)
      if (times != 1) return false;
  }
  return true;
}

int rounds_of(AlgorithmChoice choice, int ranks) { return static_cast<int>(build_schedule(choice, ranks).rounds.size()); }

}  // namespace

TEST_CASE("every algorithm gives every rank every input once", "[planner][schedule]") {
  const int ranks = GENERATE(range(2, 17));
  for (const AlgorithmChoice choice : every_algorithm()) {
    CAPTURE(ranks, to_string(choice));
    CHECK(is_all_reduce(build_schedule(choice, ranks)));
  }
}

TEST_CASE("a schedule without one of its transfers is no all-reduce", "[planner][schedule]") {
  for (const AlgorithmChoice choice : every_algorithm()) {
    const Schedule whole = build_schedule(choice, 5);
    for (std::size_t round = 0; round < whole.rounds.size(); ++round)
      for (std::size_t transfer = 0; transfer < whole.rounds[round].size(); ++transfer) {
        Schedule broken = whole;
        broken.rounds[round].erase(broken.rounds[round].begin() + static_cast<std::ptrdiff_t>(transfer));
        CAPTURE(to_string(choice), round, transfer);
        CHECK_FALSE(is_all_reduce(broken));
      }
  }
}

TEST_CASE("schedules have as many rounds as their shape says", "[planner][schedule]") {
  for (int ranks = 2; ranks <= 16; ++ranks) {
    CAPTURE(ranks);
    CHECK(rounds_of({Algorithm::one_shot}, ranks) == 1);
    CHECK(rounds_of({Algorithm::two_shot}, ranks) == 2);
    CHECK(rounds_of({Algorithm::ring}, ranks) == 2 * (ranks - 1));
    int depth = 0;
    while ((1 << (depth + 1)) <= ranks) ++depth;
    CHECK(rounds_of({Algorithm::binary_tree}, ranks) == 2 * depth);
    CHECK(rounds_of({Algorithm::balanced_tree}, ranks) == 2 * depth);
    CHECK(rounds_of({Algorithm::kary_tree, 15}, ranks) == 2);
    CHECK(rounds_of({Algorithm::kary_tree, 1}, ranks) == 2 * (ranks - 1));
  }
}

TEST_CASE("a binary tree is the k-ary tree of two", "[planner][schedule]") {
  const int ranks = GENERATE(range(2, 17));
  CHECK(build_schedule({Algorithm::binary_tree}, ranks).rounds == build_schedule({Algorithm::kary_tree, 2}, ranks).rounds);
}

TEST_CASE("a ring follows the order it is given and uses one link out of each rank", "[planner][schedule]") {
  const std::vector<int> order = {2, 0, 3, 1};
  const Schedule schedule = ring_all_reduce(order);
  CHECK(is_all_reduce(schedule));
  const std::set<std::pair<int, int>> expected = {{2, 0}, {0, 3}, {3, 1}, {1, 2}};
  std::set<std::pair<int, int>> links;
  for (const auto& round : schedule.rounds)
    for (const Transfer& transfer : round) links.insert({transfer.from, transfer.to});
  CHECK(links == expected);
}

TEST_CASE("a node of a tree hears all its children in one round", "[planner][schedule]") {
  const int ranks = GENERATE(range(2, 17));
  for (const AlgorithmChoice choice : every_algorithm()) {
    if (choice.algorithm < Algorithm::binary_tree) continue;
    const Schedule schedule = build_schedule(choice, ranks);
    std::map<std::pair<int, int>, std::set<std::size_t>> heard;  // by rank and chunk
    std::map<std::pair<int, int>, int> children;
    for (std::size_t round = 0; round < schedule.rounds.size(); ++round)
      for (const Transfer& transfer : schedule.rounds[round])
        if (const std::pair node{transfer.to, transfer.chunk}; transfer.action == Action::reduce) heard[node].insert(round), ++children[node];
    const int arity = choice.algorithm == Algorithm::kary_tree ? choice.arity : 2;
    for (const auto& [node, rounds] : heard) {
      CAPTURE(ranks, to_string(choice), node.first);
      CHECK(rounds.size() == 1);
      CHECK(children[node] <= arity);
    }
  }
}

TEST_CASE("a balanced tree's sums are sums in the order of the ranks", "[planner][schedule]") {
  const int ranks = GENERATE(range(2, 17));
  // Every partial that travels is one run of neighbouring ranks, next to the run it is combined with.
  const Schedule schedule = build_schedule({Algorithm::balanced_tree}, ranks);
  Schedule begun{.ranks = ranks, .chunks = 1, .rounds = {}};
  for (const auto& round : schedule.rounds) {
    begun.rounds.push_back(round);
    for (const auto& [where, inputs] : play(begun))
      CHECK(inputs.rbegin()->first - inputs.begin()->first + 1 == static_cast<int>(inputs.size()));
  }
}

TEST_CASE("builders refuse what is no order of ranks", "[planner][schedule]") {
  CHECK_THROWS_AS(ring_all_reduce(std::vector<int>{0}), Error);
  CHECK_THROWS_AS(ring_all_reduce(std::vector<int>{0, 0}), Error);
  CHECK_THROWS_AS(ring_all_reduce(std::vector<int>{0, 2}), Error);
  CHECK_THROWS_AS(balanced_tree_all_reduce(std::vector<int>{1, -1}), Error);
  CHECK_THROWS_AS(kary_tree_all_reduce(std::vector<int>{0, 1}, 0), Error);
  CHECK_THROWS_AS(one_shot_all_reduce(1), Error);
  CHECK_THROWS_AS(build_schedule({Algorithm::ring}, 17), Error);
  CHECK_THROWS_AS(build_schedule({Algorithm::ring}, 1), Error);
}
