#include <algorithm>

#include "base/integers.hpp"
#include "base/require.hpp"
#include "planner/schedule.hpp"

namespace collectives {
namespace {

std::vector<int> depths_of(const std::vector<int>& parent) {
  std::vector<int> depths(parent.size(), 0);
  for (std::size_t node = 0; node < parent.size(); ++node)
    for (int up = parent[node]; up != no_parent; up = parent[at(up)]) ++depths[node];
  return depths;
}

/// The tree of positions as a tree of the ranks that stand there.
TreePair pair_of(std::span<const int> order, const std::vector<int>& parent) {
  std::vector<int> tree(order.size(), no_parent);
  for (std::size_t position = 0; position < order.size(); ++position)
    if (parent[position] != no_parent) tree[at(order[position])] = order[at(parent[position])];
  return {.up = tree, .down = tree};
}

// Inputs are reduced up the tree, the total is copied down. A rank at depth d sends up in round (deepest - d), leaves that hang
// high included, so that all children of a parent arrive in one round and no value waits a round between two hops: a transfer
// never has more than one tile of slack, and two stages always suffice.
void add_trees(Schedule& schedule, int chunk, const TreePair& pair) {
  const auto up_depth = depths_of(pair.up), down_depth = depths_of(pair.down);
  const int up_rounds = *std::max_element(up_depth.begin(), up_depth.end());
  const int rounds = up_rounds + *std::max_element(down_depth.begin(), down_depth.end());
  if (schedule.rounds.size() < at(rounds)) schedule.rounds.resize(at(rounds));
  for (int rank = 0; rank < schedule.ranks; ++rank) {
    if (pair.up[at(rank)] != no_parent)
      schedule.rounds[at(up_rounds - up_depth[at(rank)])].push_back({Action::reduce, chunk, rank, pair.up[at(rank)]});
    if (pair.down[at(rank)] != no_parent)
      schedule.rounds[at(up_rounds + down_depth[at(rank)] - 1)].push_back({Action::copy, chunk, pair.down[at(rank)], rank});
  }
}

// The middle of [first, last) is its root, so a parent stands between its two subtrees: with ranks in natural order every sum
// is the sum in the order of the ranks, only bracketed differently.
void halve(std::vector<int>& parent, int above, int first, int last) {
  if (first == last) return;
  const int middle = first + (last - first) / 2;
  parent[at(middle)] = above;
  halve(parent, middle, first, middle);
  halve(parent, middle, middle + 1, last);
}

}  // namespace

// 2 * depth rounds a pair. Each link of a tree carries its share of the message once; a rank with k children takes or sends k times
// that.
Schedule tree_pairs_all_reduce(std::span<const TreePair> pairs) {
  require(!pairs.empty(), "an all-reduce by trees needs a pair of them");
  Schedule schedule{.ranks = static_cast<int>(pairs[0].up.size()), .chunks = static_cast<int>(pairs.size()), .rounds = {}};
  double total = 0;
  for (const TreePair& pair : pairs) total += pair.mb_per_s;
  for (int chunk = 0; chunk < schedule.chunks; ++chunk) {
    const TreePair& pair = pairs[at(chunk)];
    add_trees(schedule, chunk, pair);
    constexpr double whole = 4096;
    if (pairs.size() > 1) schedule.weights.push_back(static_cast<std::uint32_t>(std::max(whole * pair.mb_per_s / total + 0.5, 1.0)));
  }
  return schedule;
}

// Needs a path from parent to child only: for machines with few good links. A larger arity has fewer rounds and a busier root.
Schedule kary_tree_all_reduce(std::span<const int> order, int arity) {
  require_permutation(order);
  require(arity >= 1, "a tree needs an arity of at least 1");
  std::vector<int> parent(order.size(), no_parent);
  for (std::size_t position = 1; position < order.size(); ++position) parent[position] = (static_cast<int>(position) - 1) / arity;
  return tree_pairs_all_reduce(std::vector{pair_of(order, parent)});
}

// The message goes down only: a round a level, and a rank sends it to each of its children.
Schedule kary_tree_broadcast(std::span<const int> order, int arity) {
  Schedule schedule = kary_tree_all_reduce(order, arity);
  schedule.rounds.erase(schedule.rounds.begin(), schedule.rounds.begin() + static_cast<std::ptrdiff_t>(schedule.rounds.size() / 2));
  schedule.givers = {mask_of(order[0])};
  schedule.takers = {all_of(schedule.ranks)};
  return schedule;
}

// As deep as the heap-shaped binary tree; its subtrees of a node never differ by more than one rank.
Schedule balanced_tree_all_reduce(std::span<const int> order) {
  require_permutation(order);
  std::vector<int> parent(order.size(), no_parent);
  halve(parent, no_parent, 0, static_cast<int>(order.size()));
  return tree_pairs_all_reduce(std::vector{pair_of(order, parent)});
}

// A position's children are it less and more half of its lowest set bit: odd positions are leaves. The other tree is this one seen
// from the other end, where that swaps odd and even, else moved on by one.
Schedule double_tree_all_reduce(std::span<const int> order) {
  require_permutation(order);
  const int n = static_cast<int>(order.size());
  std::vector<int> parent(order.size(), no_parent);
  for (int position = 1; position < n; ++position) {
    const int bit = position & -position, above = (position ^ bit) | (bit << 1);
    parent[at(position)] = above < n ? above : position ^ bit;
  }
  std::vector<int> other(order.begin(), order.end());
  if (n % 2 == 0) {
    std::reverse(other.begin(), other.end());
  } else {
    std::rotate(other.begin(), other.begin() + 1, other.end());
  }
  return tree_pairs_all_reduce(std::vector{pair_of(order, parent), pair_of(other, parent)});
}

}  // namespace collectives
