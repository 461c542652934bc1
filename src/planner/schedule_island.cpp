#include <algorithm>

#include "base/require.hpp"
#include "planner/schedule.hpp"

namespace collectives {

// Three rounds. What crosses between islands is one message out of each to each other, however many ranks an island has, and a
// member's share of that is what its turns are of all chunks: for partial peer access, where what crosses goes through host memory.
// Those who exchange combine the islands' partial results in the order of their ranks, so all hold the same bits.
Schedule island_all_reduce(std::span<const std::vector<int>> islands) {
  std::vector<int> all;
  std::size_t largest = 1;
  for (const auto& island : islands) {
    all.insert(all.end(), island.begin(), island.end());
    largest = std::max(largest, island.size());
  }
  require_permutation(all);
  const int chunks = static_cast<int>(largest);
  Schedule schedule{.ranks = static_cast<int>(all.size()), .chunks = chunks, .rounds = std::vector<std::vector<Transfer>>(3)};
  for (int chunk = 0; chunk < chunks; ++chunk) {
    std::vector<int> speakers;
    for (const auto& island : islands) speakers.push_back(island[static_cast<std::size_t>(chunk) % island.size()]);
    for (std::size_t i = 0; i < islands.size(); ++i)
      for (const int member : islands[i]) {
        if (member == speakers[i]) continue;
        schedule.rounds[0].push_back({Action::reduce, chunk, member, speakers[i]});
        schedule.rounds[2].push_back({Action::copy, chunk, speakers[i], member});
      }
    for (const int from : speakers)
      for (const int to : speakers)
        if (from != to) schedule.rounds[1].push_back({Action::reduce, chunk, from, to});
  }
  std::erase_if(schedule.rounds, [](const std::vector<Transfer>& round) { return round.empty(); });
  return schedule;
}

}  // namespace collectives
