#pragma once

#include <collectives/plan.hpp>
#include <cstdint>
#include <span>
#include <vector>

#include "planner/tree_pair.hpp"

namespace collectives {

enum class Action : std::uint8_t { reduce, copy };

/// `from` sends its value of `chunk`, as it stood when the round began, to `to`, which combines it with its own or takes it.
struct Transfer {
  Action action = Action::reduce;
  int chunk = 0;
  int from = 0;
  int to = 0;
  bool operator==(const Transfer&) const = default;
};

/// Does every chunk meet all its operands in one step, so that its bits depend on nothing but the inputs?
constexpr bool is_direct(Algorithm algorithm) {
  return algorithm == Algorithm::one_shot || algorithm == Algorithm::two_shot || algorithm == Algorithm::copy_two_shot;
}

/// A bit a rank.
using RankMask = std::uint32_t;

constexpr RankMask mask_of(int rank) { return RankMask{1} << rank; }
constexpr RankMask all_of(int ranks) { return mask_of(ranks) - 1; }

/// Who sends which chunk to whom in which round. Every giver of a chunk begins with its own input as the chunk's value. What a
/// rank receives in one round is combined with its own value, if it has one, in ascending order of the ranks they come from, its
/// own at its own place: that order is the determinism contract. In the end every taker keeps its value: the givers' inputs, each
/// once.
struct Schedule {
  int ranks = 0;
  int chunks = 1;
  std::vector<std::vector<Transfer>> rounds;
  std::vector<std::uint32_t> weights{};  ///< the chunks' relative sizes; none: equal. At most 2^32 - 1 together
  std::vector<RankMask> givers{};        ///< of each chunk; none: every rank
  std::vector<RankMask> takers{};        ///< of each chunk; none: every rank
};

Schedule one_shot_all_reduce(int ranks);
Schedule two_shot_all_reduce(int ranks);
/// `ring` is the order in which the ranks stand.
Schedule ring_all_reduce(std::span<const int> ring);
/// The heap-shaped tree: the children of position p are k*p+1 .. k*p+k. `order` says which rank stands at which position.
Schedule kary_tree_all_reduce(std::span<const int> order, int arity);
/// The tree whose every subtree is cut in two halves as equal as can be, so that its depth is the least for two children a node.
Schedule balanced_tree_all_reduce(std::span<const int> order);

/// Two binary trees for half of the message each (Sanders, Speck and Traeff). Ranks that have children in one are leaves in the
/// other, but for one or two, so that no port carries more than about twice the message.
Schedule double_tree_all_reduce(std::span<const int> order);
/// A chunk for each pair of trees, of a size after its `mb_per_s`.
Schedule tree_pairs_all_reduce(std::span<const TreePair> pairs);
/// Each island reduces to a member, these exchange their partial results with each other, and each tells its island. The members
/// of an island take turns by the chunk. `islands` names every rank once.
Schedule island_all_reduce(std::span<const std::vector<int>> islands);

/// The tree of kary_tree_all_reduce with the root first, downwards only.
Schedule kary_tree_broadcast(std::span<const int> order, int arity);

// A block a rank: chunk c is rank c's. All to all: chunk from * N + to.
Schedule one_shot_all_gather(int ranks);
Schedule ring_all_gather(std::span<const int> ring);
Schedule one_shot_reduce_scatter(int ranks);
Schedule ring_reduce_scatter(std::span<const int> ring);
Schedule one_shot_gather(int ranks, int root);
Schedule one_shot_scatter(int ranks, int root);
Schedule one_shot_all_to_all(int ranks);

Schedule one_shot_broadcast(int ranks, int root);
Schedule two_shot_broadcast(int ranks, int root);
Schedule ring_broadcast(std::span<const int> ring, int root);
Schedule two_shot_reduce(int ranks, int root);
/// The reduce that runs a broadcast backwards.
Schedule reversed(const Schedule& broadcast);

/// Throws Error(invalid_argument) unless `order` names each of its ranks once and is at least two long.
void require_permutation(std::span<const int> order);

/// The schedule of an algorithm for ranks 0..ranks-1 in their natural order. 2 to 16 ranks. Not for algorithms that are made for
/// a fabric: packed trees and islands.
Schedule build_schedule(AlgorithmChoice choice, int ranks);
/// The same of any collective; an exchange is an all-to-all whose blocks differ. Throws Error(invalid_argument) for an algorithm
/// that the collective does not have, see `algorithms_of`.
Schedule build_schedule(Collective collective, AlgorithmChoice choice, int ranks, int root);

/// Any collective of one rank: it keeps its own input.
Schedule schedule_of_one_rank();
std::vector<AlgorithmChoice> algorithms_for_one_rank();

/// What a collective may be done by, in order of preference where costs tie.
std::vector<AlgorithmChoice> algorithms_of(Collective collective);

}  // namespace collectives
