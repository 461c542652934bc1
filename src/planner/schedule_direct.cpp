#include "base/require.hpp"
#include "planner/schedule.hpp"

namespace collectives {

// Every rank sends its whole input to every other in one round, and each reduces all of them for itself. N-1 times the message
// leaves every port, but nothing is as short as one round: small messages, and two ranks at nearly every size. All operands
// meet in one step, so the sum is rounded once, in the order of the ranks.
Schedule one_shot_all_reduce(int ranks) {
  require(ranks >= 2, "an all-reduce needs at least two ranks");
  Schedule schedule{.ranks = ranks, .chunks = 1, .rounds = {{}}};
  for (int distance = 1; distance < ranks; ++distance)
    for (int from = 0; from < ranks; ++from) schedule.rounds[0].push_back({Action::reduce, 0, from, (from + distance) % ranks});
  return schedule;
}

// Chunk c belongs to rank c. In the first round every rank sends each owner its part, in the second the owners send the totals
// to everyone. 2(N-1)/N times the message leaves every port, the least there is, for one round more than one-shot. Each chunk
// is reduced in one step on its owner, with the same operands in the same order as one-shot: the same bits.
Schedule two_shot_all_reduce(int ranks) {
  require(ranks >= 2, "an all-reduce needs at least two ranks");
  Schedule schedule{.ranks = ranks, .chunks = ranks, .rounds = {{}, {}}};
  for (int distance = 1; distance < ranks; ++distance)
    for (int from = 0; from < ranks; ++from) {
      const int to = (from + distance) % ranks;
      schedule.rounds[0].push_back({Action::reduce, to, from, to});
      schedule.rounds[1].push_back({Action::copy, from, from, to});
    }
  return schedule;
}

}  // namespace collectives
