#include "planner/schedule.hpp"

#include <collectives/communicator.hpp>
#include <numeric>

#include "base/require.hpp"

namespace collectives {

void require_permutation(std::span<const int> order) {
  require(order.size() >= 2, "an all-reduce needs at least two ranks");
  std::vector<bool> seen(order.size(), false);
  for (const int rank : order) {
    const bool fresh = rank >= 0 && rank < static_cast<int>(order.size()) && !seen[static_cast<std::size_t>(rank)];
    require(fresh, [&] {
      return "an order of ranks names each of 0.." + std::to_string(order.size() - 1) + " once, not " + std::to_string(rank);
    });
    seen[static_cast<std::size_t>(rank)] = true;
  }
}

Schedule build_schedule(AlgorithmChoice choice, int ranks) {
  require(ranks >= 2 && ranks <= max_ranks, [&] { return "an all-reduce has 2 to 16 ranks, not " + std::to_string(ranks); });
  std::vector<int> order(static_cast<std::size_t>(ranks));
  std::iota(order.begin(), order.end(), 0);
  switch (choice.algorithm) {
    case Algorithm::one_shot:
      return one_shot_all_reduce(ranks);
    case Algorithm::two_shot:
      return two_shot_all_reduce(ranks);
    case Algorithm::ring:
      return ring_all_reduce(order);
    case Algorithm::binary_tree:
      return kary_tree_all_reduce(order, 2);
    case Algorithm::kary_tree:
      return kary_tree_all_reduce(order, choice.arity);
    case Algorithm::balanced_tree:
      return balanced_tree_all_reduce(order);
  }
  throw Error(ErrorCode::invalid_argument, "no such algorithm: " + std::to_string(static_cast<int>(choice.algorithm)));
}

}  // namespace collectives
