#include "base/require.hpp"
#include "planner/schedule.hpp"

namespace collectives {

// Chunk c starts at position c and travels one position per round. After n-1 reducing rounds its total is at position c-1; n-1
// copying rounds then carry the total to everyone else. Every link carries 2(n-1)/n times the message and every rank uses one
// link out and one in: for machines where only neighbours are well connected, and messages long enough to hide 2(n-1) rounds.
// Chunk c is summed in the order of positions c, c+1, ... and rounded at every hop.
Schedule ring_all_reduce(std::span<const int> ring) {
  require_permutation(ring);
  const int n = static_cast<int>(ring.size());
  Schedule schedule{.ranks = n, .chunks = n, .rounds = {}};
  for (int round = 0; round < 2 * (n - 1); ++round) {
    const Action action = round < n - 1 ? Action::reduce : Action::copy;
    auto& transfers = schedule.rounds.emplace_back();
    for (int chunk = 0; chunk < n; ++chunk) {
      const auto position = static_cast<std::size_t>((chunk + round) % n);
      transfers.push_back({action, chunk, ring[position], ring[(position + 1) % ring.size()]});
    }
  }
  return schedule;
}

}  // namespace collectives
