#include "planner/limits.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "topology/priors.hpp"

namespace collectives {

Limits::Limits(const Fabric& fabric) : ranks_(fabric.ranks), ways_(fabric.links.size()) {
  for (std::size_t i = 0; i < fabric.resources.size(); ++i) limits_.push_back({fabric.resources[i].mb_per_s, static_cast<int>(i)});
  for (const FabricLink& link : fabric.links) root_.push_back(link.root);
  for (int from = 0; from < ranks_; ++from)
    for (int to = 0; to < ranks_; ++to) {
      if (from == to) continue;
      const FabricLink& link = fabric.link(from, to);
      auto& way = ways_[fabric.index(from, to)];
      way.assign(link.route.begin(), link.route.end());
      const bool narrower = std::all_of(way.begin(), way.end(), [&](int index) { return link.mb_per_s < (*this)[index].mb_per_s; });
      if (!narrower) continue;
      // Amid its way, between what its sender's flows share and what its receiver's do: where it belongs as an edge of a graph.
      way.insert(way.begin() + static_cast<std::ptrdiff_t>(way.size() + 1) / 2, count());
      // A link without bandwidth would make times infinite.
      limits_.push_back({std::max(link.mb_per_s, 1u), -1, from, to});
    }
}

double fan_out_strain(int peers) { return peers >= 3 ? 1 / root_share : 1; }

std::string to_string(const Limit& limit, const Fabric& fabric) {
  if (limit.resource >= 0) return to_string(fabric.resources[static_cast<std::size_t>(limit.resource)]);
  return fmt::format("one flow from rank {} to rank {}", limit.from, limit.to);
}

}  // namespace collectives
