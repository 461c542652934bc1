#include "topology/pcie_paths.hpp"

#include <algorithm>
#include <queue>

namespace collectives {

PciePaths::PciePaths(const Machine& machine) : machine_(machine), links_(machine.nodes.size()) {
  for (const Link& link : machine.links)
    if (link.kind != LinkKind::nvlink) links_[static_cast<std::size_t>(link.from)].push_back(&link);
}

std::vector<std::string> PciePaths::from(int node) const {
  std::vector<std::string> names;
  for (const Way& way : ways_from(node)) names.emplace_back(name_of(way));
  return names;
}

std::vector<double> PciePaths::narrowest_from(int node) const {
  std::vector<double> rates;
  for (const Way& way : ways_from(node)) rates.push_back(way.gb_per_s);
  return rates;
}

std::vector<PciePaths::Way> PciePaths::ways_from(int node) const {
  std::vector<Way> ways(machine_.nodes.size());
  ways[static_cast<std::size_t>(node)].reached = true;
  std::queue<int> open({node});
  while (!open.empty()) {
    const int at = open.front();
    open.pop();
    // GPUs pass nothing on.
    if (at != node && machine_.nodes[static_cast<std::size_t>(at)].kind == NodeKind::gpu) continue;
    for (const Link* link : links_[static_cast<std::size_t>(at)]) {
      Way& to = ways[static_cast<std::size_t>(link->to)];
      if (to.reached) continue;
      to = extended(ways[static_cast<std::size_t>(at)], *link);
      open.push(link->to);
    }
  }
  return ways;
}

PciePaths::Way PciePaths::extended(const Way& way, const Link& link) const {
  Way longer = way;
  longer.socket = longer.socket || link.kind == LinkKind::socket;
  if (link.kind == LinkKind::pcie && link.gb_per_s > 0) longer.gb_per_s = std::min(longer.gb_per_s, link.gb_per_s);
  switch (machine_.nodes[static_cast<std::size_t>(link.to)].kind) {
    case NodeKind::pci_switch:
      ++longer.switches;
      break;
    case NodeKind::host_bridge:
      longer.root = true;
      break;
    case NodeKind::cpu:
      longer.cpu = true;
      break;
    default:
      break;
  }
  return longer;
}

const char* PciePaths::name_of(const Way& way) {
  if (!way.reached) return "";
  if (way.socket) return "SYS";
  if (way.cpu) return "NODE";
  if (way.root) return "PHB";
  return way.switches > 1 ? "PXB" : "PIX";
}

}  // namespace collectives
