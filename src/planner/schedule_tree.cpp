#include <algorithm>

#include "base/require.hpp"
#include "planner/schedule.hpp"

namespace collectives {
namespace {

constexpr int no_parent = -1;

std::vector<int> depths_of(const std::vector<int>& parent) {
  std::vector<int> depths(parent.size(), 0);
  for (std::size_t position = 0; position < parent.size(); ++position)
    for (int up = parent[position]; up != no_parent; up = parent[static_cast<std::size_t>(up)]) ++depths[position];
  return depths;
}

// Inputs are reduced up the tree, the total is copied down: 2 * depth rounds. A position at depth d sends up in round
// (deepest - d), leaves that hang high included, so that all children of a parent arrive in one round and no value waits a
// round between two hops: a transfer never has more than one tile of slack, and two stages always suffice. Each link carries
// the message once each way; a rank with k children takes and sends k times the message.
Schedule tree_all_reduce(std::span<const int> order, const std::vector<int>& parent) {
  const auto depths = depths_of(parent);
  const int deepest = *std::max_element(depths.begin(), depths.end());
  Schedule schedule{.ranks = static_cast<int>(order.size()), .chunks = 1, .rounds = {}};
  schedule.rounds.resize(static_cast<std::size_t>(2 * deepest));
  for (std::size_t position = 0; position < order.size(); ++position) {
    if (parent[position] == no_parent) continue;
    const int child = order[position];
    const int above = order[static_cast<std::size_t>(parent[position])];
    schedule.rounds[static_cast<std::size_t>(deepest - depths[position])].push_back({Action::reduce, 0, child, above});
    schedule.rounds[static_cast<std::size_t>(deepest + depths[position] - 1)].push_back({Action::copy, 0, above, child});
  }
  return schedule;
}

// The middle of [first, last) is its root, so a parent stands between its two subtrees: with ranks in natural order every sum
// is the sum in the order of the ranks, only bracketed differently.
void halve(std::vector<int>& parent, int above, int first, int last) {
  if (first == last) return;
  const int middle = first + (last - first) / 2;
  parent[static_cast<std::size_t>(middle)] = above;
  halve(parent, middle, first, middle);
  halve(parent, middle, middle + 1, last);
}

}  // namespace

// Needs a path from parent to child only: for machines with few good links. A larger arity has fewer rounds and a busier root.
Schedule kary_tree_all_reduce(std::span<const int> order, int arity) {
  require_permutation(order);
  require(arity >= 1, "a tree needs an arity of at least 1");
  std::vector<int> parent(order.size(), no_parent);
  for (std::size_t position = 1; position < order.size(); ++position) parent[position] = (static_cast<int>(position) - 1) / arity;
  return tree_all_reduce(order, parent);
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
  return tree_all_reduce(order, parent);
}

}  // namespace collectives
