#include "planner/limits.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "topology/priors.hpp"

namespace collectives {

namespace {

std::vector<std::uint16_t>::const_iterator memory_on(const Fabric& fabric, const std::vector<std::uint16_t>& route) {
  return std::find_if(route.begin(), route.end(), [&](std::uint16_t resource) { return fabric.resources[resource].kind == ResourceKind::host_memory; });
}

}  // namespace

Fabric offering_on(Fabric fabric) {
  const auto links = fabric.links;
  for (int from = 0; from < fabric.ranks; ++from)
    for (int to = 0; to < fabric.ranks; ++to) {
      // A rank's own memory is where others leave what they have for it.
      const auto& back = links[fabric.index(to, from)].route;
      const auto own = memory_on(fabric, back);
      auto& route = fabric.links[fabric.index(from, to)].route;
      const auto other = memory_on(fabric, route);
      if (fabric.link(from, to).handover() != Handover::host || own == back.end() || other == route.end()) continue;
      const auto after = route.erase(other);
      const auto crossing = std::find_if(route.begin(), after, [&](std::uint16_t resource) { return fabric.resources[resource].kind == ResourceKind::socket; });
      route.insert(crossing, *own);
    }
  return fabric;
}

Limits::Limits(const Fabric& given, Staging staging) : ranks_(given.ranks), ways_(given.links.size()), written_(given.links.size(), 0) {
  const Fabric fabric = staging == Staging::once ? offering_on(given) : given;
  for (std::size_t i = 0; i < fabric.resources.size(); ++i) {
    constexpr std::uint32_t greatest = std::numeric_limits<std::uint32_t>::max();
    std::uint32_t mb_per_s = fabric.resources[i].mb_per_s;
    if (staging == Staging::once && fabric.resources[i].kind == ResourceKind::host_memory) mb_per_s = mb_per_s > greatest / 2 ? greatest : 2 * mb_per_s;
    limits_.push_back({mb_per_s, static_cast<int>(i)});
  }
  for (const FabricLink& link : fabric.links) root_.push_back(link.root);
  for (int from = 0; from < ranks_; ++from)
    for (int to = 0; to < ranks_; ++to) {
      if (from == to) continue;
      const FabricLink& link = fabric.link(from, to);
      auto& way = ways_[fabric.index(from, to)];
      way.assign(link.route.begin(), link.route.end());
      const bool narrower = std::all_of(link.route.begin(), link.route.end(), [&](int index) { return link.mb_per_s < fabric.resources[static_cast<std::size_t>(index)].mb_per_s; });
      const auto memory = memory_on(fabric, link.route);
      if (staging == Staging::once && link.handover() == Handover::host && memory != link.route.end()) {
        const auto written = memory - link.route.begin();
        way.insert(way.begin() + written, *memory);
        written_[fabric.index(from, to)] = static_cast<std::size_t>(written + 1);
      }
      if (!narrower) continue;
      // Amid its way, between what its sender's flows share and what its receiver's do: where it belongs as an edge of a graph.
      const auto written = static_cast<std::ptrdiff_t>(written_[fabric.index(from, to)]), middle = static_cast<std::ptrdiff_t>(way.size() + 1) / 2;
      way.insert(way.begin() + std::max(middle, written), count());
      // A link without bandwidth would make times infinite.
      limits_.push_back({std::max(link.mb_per_s, 1u), -1, from, to});
    }
}

double alone_mb_per_s(const Limit& limit, const Fabric& fabric) {
  constexpr double fast_slot_gb_per_s = healthy_pcie * 56;
  const double rate = limit.mb_per_s;
  if (limit.resource < 0) return rate;
  const ResourceKind kind = fabric.resources[static_cast<std::size_t>(limit.resource)].kind;
  const double both = kind == ResourceKind::slot_out ? host_store_gb_per_s : host_load_gb_per_s;
  const bool fast = (kind == ResourceKind::slot_out || kind == ResourceKind::slot_in) && rate >= 1e3 * both;
  return fast ? std::max(rate, 1e3 * fast_slot_gb_per_s) : rate;
}

double fan_out_strain(int peers) { return peers >= 3 ? 1 / root_share : 1; }

std::string to_string(const Limit& limit, const Fabric& fabric) {
  if (limit.resource >= 0) return to_string(fabric.resources[static_cast<std::size_t>(limit.resource)]);
  return fmt::format("one flow from rank {} to rank {}", limit.from, limit.to);
}

}  // namespace collectives
