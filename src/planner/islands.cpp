#include "planner/islands.hpp"

#include <algorithm>

namespace collectives {
namespace {

bool reach_each_other(const Fabric& fabric, int a, int b) { return fabric.link(a, b).by_peer() && fabric.link(b, a).by_peer(); }

/// How many of these reach and are reached by it.
auto company(const Fabric& fabric, const std::vector<int>& ranks, int rank) {
  return std::count_if(ranks.begin(), ranks.end(), [&](int other) { return other != rank && reach_each_other(fabric, rank, other); });
}

}  // namespace

// An island grows by the rank that leaves most others to grow by: two that are linked across what would be islands stay apart.
std::vector<std::vector<int>> islands_of(const Fabric& fabric) {
  std::vector<std::vector<int>> islands;
  std::vector<int> left;
  for (int rank = 0; rank < fabric.ranks; ++rank) left.push_back(rank);
  while (!left.empty()) {
    auto& island = islands.emplace_back();
    std::vector<int> open = left;
    for (int next = left.front(); next >= 0;) {
      island.push_back(next);
      std::erase(left, next);
      std::erase_if(open, [&](int rank) { return rank == next || !reach_each_other(fabric, next, rank); });
      const auto best =
          std::max_element(open.begin(), open.end(), [&](int a, int b) { return company(fabric, open, a) < company(fabric, open, b); });
      next = best == open.end() ? -1 : *best;
    }
  }
  return islands;
}

}  // namespace collectives
