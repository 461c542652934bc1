#include "base/require.hpp"
#include "planner/schedule.hpp"

// One message that begins or ends at a root: broadcast and reduce.
namespace collectives {
namespace {

Schedule from_root(int ranks, int chunks, int root) {
  require(root >= 0 && root < ranks, "the root is one of the ranks");
  Schedule schedule{.ranks = ranks, .chunks = chunks, .rounds = {}};
  schedule.givers.assign(static_cast<std::size_t>(chunks), mask_of(root));
  schedule.takers.assign(static_cast<std::size_t>(chunks), all_of(ranks));
  return schedule;
}

}  // namespace

// The root sends the whole message to everyone: one round, N-1 messages out of the root.
Schedule one_shot_broadcast(int ranks, int root) {
  Schedule schedule = from_root(ranks, 1, root);
  schedule.rounds.emplace_back();
  for (int distance = 1; distance < ranks; ++distance) schedule.rounds[0].push_back({Action::copy, 0, root, (root + distance) % ranks});
  return schedule;
}

// The root gives every other rank a part, and they give the parts to each other: one more round, but the root sends the message only
// once, and nobody else sends as much.
Schedule two_shot_broadcast(int ranks, int root) {
  Schedule schedule = from_root(ranks, ranks - 1, root);
  schedule.rounds.resize(ranks > 2 ? 2 : 1);
  for (int chunk = 0; chunk < ranks - 1; ++chunk) schedule.rounds[0].push_back({Action::copy, chunk, root, (root + 1 + chunk) % ranks});
  for (int distance = 1; distance < ranks; ++distance)
    for (int chunk = 0; chunk < ranks - 1; ++chunk) {
      const int owner = (root + 1 + chunk) % ranks, to = (owner + distance) % ranks;
      if (to != root) schedule.rounds[1].push_back({Action::copy, chunk, owner, to});
    }
  return schedule;
}

// From neighbour to neighbour, pipelined: one link in and one out of every rank, N-1 rounds.
Schedule ring_broadcast(std::span<const int> ring, int root) {
  require_permutation(ring);
  Schedule schedule = from_root(static_cast<int>(ring.size()), 1, root);
  std::size_t at = 0;
  while (ring[at] != root) ++at;
  for (std::size_t hop = 0; hop + 1 < ring.size(); ++hop)
    schedule.rounds.push_back({{Action::copy, 0, ring[(at + hop) % ring.size()], ring[(at + hop + 1) % ring.size()]}});
  return schedule;
}

// Two-shot all-reduce whose totals go to the root alone: every chunk is combined in one step on its owner, in the order of the
// ranks. The root receives twice the message where one-shot brings it N-1 times.
Schedule two_shot_reduce(int ranks, int root) {
  Schedule schedule = from_root(ranks, ranks, root);
  std::swap(schedule.givers, schedule.takers);
  schedule.rounds.resize(2);
  for (int distance = 1; distance < ranks; ++distance)
    for (int from = 0; from < ranks; ++from) {
      const int owner = (from + distance) % ranks;
      schedule.rounds[0].push_back({Action::reduce, owner, from, owner});
    }
  for (int distance = 1; distance < ranks; ++distance) {
    const int owner = (root + distance) % ranks;
    schedule.rounds[1].push_back({Action::copy, owner, owner, root});
  }
  return schedule;
}

// A broadcast backwards: where the message went from one to many, many operands meet in one.
Schedule reversed(const Schedule& broadcast) {
  Schedule reduce = broadcast;
  std::swap(reduce.givers, reduce.takers);
  reduce.rounds.assign(broadcast.rounds.rbegin(), broadcast.rounds.rend());
  for (auto& round : reduce.rounds)
    for (Transfer& transfer : round) transfer = {Action::reduce, transfer.chunk, transfer.to, transfer.from};
  return reduce;
}

}  // namespace collectives
