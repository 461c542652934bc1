#include <numeric>

#include "base/require.hpp"
#include "planner/schedule.hpp"

// Collectives whose buffers are made of a block a rank, or a block for each pair of ranks: a chunk is a block.
namespace collectives {
namespace {

Schedule block_a_rank(int ranks) {
  require(ranks >= 2, "a collective needs at least two ranks");
  return {.ranks = ranks, .chunks = ranks, .rounds = {}};
}

std::vector<RankMask> each_its_own(int ranks) {
  std::vector<RankMask> masks;
  for (int rank = 0; rank < ranks; ++rank) masks.push_back(mask_of(rank));
  return masks;
}

std::vector<RankMask> always(int ranks, RankMask mask) { return std::vector<RankMask>(static_cast<std::size_t>(ranks), mask); }

int next(std::span<const int> ring, int position) { return ring[static_cast<std::size_t>(position) % ring.size()]; }

}  // namespace

// Every rank sends its block to every other: one round, and no more bytes than must be. The same links at once, in turn.
Schedule one_shot_all_gather(int ranks) {
  Schedule schedule = block_a_rank(ranks);
  schedule.givers = each_its_own(ranks);
  schedule.rounds.emplace_back();
  for (int distance = 1; distance < ranks; ++distance)
    for (int from = 0; from < ranks; ++from) schedule.rounds[0].push_back({Action::copy, from, from, (from + distance) % ranks});
  return schedule;
}

// Every block travels once around the ring: N-1 rounds, the same bytes, one link in and one out of every rank.
Schedule ring_all_gather(std::span<const int> ring) {
  require_permutation(ring);
  const int n = static_cast<int>(ring.size());
  Schedule schedule = block_a_rank(n);
  schedule.givers = each_its_own(n);
  for (int round = 0; round < n - 1; ++round) {
    auto& transfers = schedule.rounds.emplace_back();
    for (int position = 0; position < n; ++position)
      transfers.push_back({Action::copy, next(ring, position), next(ring, position + round), next(ring, position + round + 1)});
  }
  return schedule;
}

// Every rank sends every other the block that is the other's, who combines all of them in one step: one round, the fewest bytes,
// the bits of a direct all-reduce.
Schedule one_shot_reduce_scatter(int ranks) {
  Schedule schedule = block_a_rank(ranks);
  schedule.takers = each_its_own(ranks);
  schedule.rounds.emplace_back();
  for (int distance = 1; distance < ranks; ++distance)
    for (int from = 0; from < ranks; ++from) {
      const int to = (from + distance) % ranks;
      schedule.rounds[0].push_back({Action::reduce, to, from, to});
    }
  return schedule;
}

// A block begins behind its owner and is combined hop by hop around the ring, rounded at each.
Schedule ring_reduce_scatter(std::span<const int> ring) {
  require_permutation(ring);
  const int n = static_cast<int>(ring.size());
  Schedule schedule = block_a_rank(n);
  schedule.takers = each_its_own(n);
  for (int round = 0; round < n - 1; ++round) {
    auto& transfers = schedule.rounds.emplace_back();
    for (int owner = 0; owner < n; ++owner)
      transfers.push_back({Action::reduce, next(ring, owner), next(ring, owner + round + 1), next(ring, owner + round + 2)});
  }
  return schedule;
}

Schedule one_shot_gather(int ranks, int root) {
  Schedule schedule = block_a_rank(ranks);
  schedule.givers = each_its_own(ranks);
  schedule.takers = always(ranks, mask_of(root));
  schedule.rounds.emplace_back();
  for (int distance = 1; distance < ranks; ++distance) {
    const int from = (root + distance) % ranks;
    schedule.rounds[0].push_back({Action::copy, from, from, root});
  }
  return schedule;
}

Schedule one_shot_scatter(int ranks, int root) {
  Schedule schedule = block_a_rank(ranks);
  schedule.givers = always(ranks, mask_of(root));
  schedule.takers = each_its_own(ranks);
  schedule.rounds.emplace_back();
  for (int distance = 1; distance < ranks; ++distance) {
    const int to = (root + distance) % ranks;
    schedule.rounds[0].push_back({Action::copy, to, root, to});
  }
  return schedule;
}

// Chunk from * N + to is what `from` has for `to`. At each distance the transfers are a permutation: no receiver is swamped.
Schedule one_shot_all_to_all(int ranks) {
  Schedule schedule = block_a_rank(ranks);
  schedule.chunks = ranks * ranks;
  for (int chunk = 0; chunk < schedule.chunks; ++chunk) {
    schedule.givers.push_back(mask_of(chunk / ranks));
    schedule.takers.push_back(mask_of(chunk % ranks));
  }
  schedule.rounds.emplace_back();
  for (int distance = 1; distance < ranks; ++distance)
    for (int from = 0; from < ranks; ++from) {
      const int to = (from + distance) % ranks;
      schedule.rounds[0].push_back({Action::copy, from * ranks + to, from, to});
    }
  return schedule;
}

}  // namespace collectives
