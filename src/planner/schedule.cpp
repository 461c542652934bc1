#include "planner/schedule.hpp"

#include <algorithm>
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
    case Algorithm::copy_two_shot:
      return two_shot_all_reduce(ranks);
    case Algorithm::ring:
      return ring_all_reduce(order);
    case Algorithm::binary_tree:
      return kary_tree_all_reduce(order, 2);
    case Algorithm::kary_tree:
      return kary_tree_all_reduce(order, choice.arity);
    case Algorithm::balanced_tree:
      return balanced_tree_all_reduce(order);
    case Algorithm::double_tree:
      return double_tree_all_reduce(order);
    case Algorithm::packed_trees:
    case Algorithm::island:
      break;
  }
  throw Error(ErrorCode::invalid_argument, "no such algorithm without a fabric: " + std::to_string(static_cast<int>(choice.algorithm)));
}

Schedule schedule_of_one_rank() { return {.ranks = 1, .chunks = 1, .rounds = {}}; }

std::vector<AlgorithmChoice> algorithms_for_one_rank() { return {{Algorithm::one_shot}}; }

std::vector<AlgorithmChoice> algorithms_of(Collective collective) {
  switch (collective) {
    case Collective::all_reduce:
      return {{Algorithm::one_shot},     {Algorithm::two_shot},      {Algorithm::ring},        {Algorithm::binary_tree}, {Algorithm::kary_tree, 3},
              {Algorithm::kary_tree, 4}, {Algorithm::balanced_tree}, {Algorithm::double_tree}, {Algorithm::packed_trees}};
    case Collective::reduce_scatter:
    case Collective::all_gather:
      return {{Algorithm::one_shot}, {Algorithm::ring}};
    case Collective::broadcast:
    case Collective::reduce:
      return {{Algorithm::one_shot}, {Algorithm::two_shot}, {Algorithm::ring}, {Algorithm::binary_tree}, {Algorithm::kary_tree, 3}};
    default:
      return {{Algorithm::one_shot}};
  }
}

namespace {

Schedule build_broadcast(AlgorithmChoice choice, int ranks, int root) {
  std::vector<int> order;
  for (int position = 0; position < ranks; ++position) order.push_back((root + position) % ranks);
  switch (choice.algorithm) {
    case Algorithm::one_shot: return one_shot_broadcast(ranks, root);
    case Algorithm::two_shot: return two_shot_broadcast(ranks, root);
    case Algorithm::ring: return ring_broadcast(order, root);
    default: return kary_tree_broadcast(order, choice.arity);
  }
}

}  // namespace

Schedule build_schedule(Collective collective, AlgorithmChoice choice, int ranks, int root) {
  if (collective == Collective::all_reduce) return build_schedule(choice, ranks);
  require(ranks >= 2 && ranks <= max_ranks, [&] { return "a collective has 2 to 16 ranks, not " + std::to_string(ranks); });
  require(root >= 0 && root < ranks, [&] { return "a root is one of the ranks, not " + std::to_string(root); });
  const auto known = algorithms_of(collective);
  require(std::find(known.begin(), known.end(), choice) != known.end(),
          [&] { return std::string(name_of(collective)) + " cannot be done by " + to_string(choice); });
  std::vector<int> order(static_cast<std::size_t>(ranks));
  std::iota(order.begin(), order.end(), 0);
  const bool rings = choice.algorithm == Algorithm::ring;
  switch (collective) {
    case Collective::reduce_scatter: return rings ? ring_reduce_scatter(order) : one_shot_reduce_scatter(ranks);
    case Collective::all_gather: return rings ? ring_all_gather(order) : one_shot_all_gather(ranks);
    case Collective::broadcast: return build_broadcast(choice, ranks, root);
    case Collective::reduce:
      return choice.algorithm == Algorithm::two_shot ? two_shot_reduce(ranks, root) : reversed(build_broadcast(choice, ranks, root));
    case Collective::gather: return one_shot_gather(ranks, root);
    case Collective::scatter: return one_shot_scatter(ranks, root);
    default: return one_shot_all_to_all(ranks);
  }
}

}  // namespace collectives
