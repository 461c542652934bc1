#include "planner/islands.hpp"

#include <algorithm>

namespace collectives {

std::vector<std::vector<int>> islands_of(const Fabric& fabric) {
  std::vector<std::vector<int>> islands;
  const auto reach_each_other = [&](int a, int b) { return fabric.link(a, b).direct && fabric.link(b, a).direct; };
  for (int rank = 0; rank < fabric.ranks; ++rank) {
    const auto open = std::find_if(islands.begin(), islands.end(), [&](const std::vector<int>& island) {
      return std::all_of(island.begin(), island.end(), [&](int member) { return reach_each_other(member, rank); });
    });
    if (open == islands.end()) {
      islands.push_back({rank});
    } else {
      open->push_back(rank);
    }
  }
  return islands;
}

}  // namespace collectives
