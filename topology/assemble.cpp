#include "topology/assemble.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "topology/graph.hpp"
#include "topology/pcie_paths.hpp"
#include "topology/priors.hpp"

namespace collectives {
namespace {

const Node& node_at(const Machine& machine, int index) { return machine.nodes[static_cast<std::size_t>(index)]; }

/// The lesser of the chips at a link's ends; 0 where neither is a known GPU.
int chip_at(const Machine& machine, const Link& link) {
  const int from = node_at(machine, link.from).compute_capability;
  const int to = node_at(machine, link.to).compute_capability;
  return from == 0 || to == 0 ? std::max(from, to) : std::min(from, to);
}

double prior_of(const Machine& machine, const Link& link) {
  switch (link.kind) {
    case LinkKind::nvlink:
      return nvlink_line_gb_per_s(chip_at(machine, link));
    case LinkKind::memory:
      return root_gb_per_s;
    case LinkKind::socket:
      return socket_gb_per_s;
    case LinkKind::pcie:
      break;
  }
  return usual_slot_gb_per_s(chip_at(machine, link));
}

unsigned count_of(const NvlinkCounts& counts, int from, int to) {
  const auto found = counts.find({from, to});
  return found == counts.end() ? 0 : found->second;
}

double slot_of(const Node& node) {
  const double known = slot_gb_per_s(static_cast<unsigned>(node.pcie_generation), static_cast<unsigned>(node.pcie_width));
  return known > 0 ? known : usual_slot_gb_per_s(node.compute_capability);
}

/// By node: what its PCIe links carry at most, or else its slot.
std::vector<double> slots_of(const Machine& machine) {
  std::vector<double> slots(machine.nodes.size(), 0);
  for (const Link& link : machine.links)
    if (link.kind == LinkKind::pcie)
      slots[static_cast<std::size_t>(link.from)] = std::max(slots[static_cast<std::size_t>(link.from)], link.gb_per_s);
  for (std::size_t i = 0; i < slots.size(); ++i)
    if (slots[i] == 0) slots[i] = slot_of(machine.nodes[i]);
  return slots;
}

}  // namespace

int add_node(Machine& machine, Node node) {
  machine.nodes.push_back(std::move(node));
  return static_cast<int>(machine.nodes.size()) - 1;
}

void join(Machine& machine, int a, int b, LinkKind kind, double gb_per_s) {
  for (const auto& [from, to] : {std::pair{a, b}, std::pair{b, a}}) {
    const auto same = [from = from, to = to, kind](const Link& link) { return link.from == from && link.to == to && link.kind == kind; };
    const auto found = std::find_if(machine.links.begin(), machine.links.end(), same);
    if (found != machine.links.end())
      found->gb_per_s += gb_per_s;
    else
      machine.links.push_back({from, to, kind, gb_per_s, 0, Evidence::claimed});
  }
}

Peer& peer_entry(Machine& machine, int from, int to) {
  for (Peer& peer : machine.peers)
    if (peer.from == from && peer.to == to) return peer;
  Peer fresh;
  fresh.from = from;
  fresh.to = to;
  return machine.peers.emplace_back(std::move(fresh));
}

int nvswitch_of(Machine& machine) {
  for (std::size_t i = 0; i < machine.nodes.size(); ++i)
    if (machine.nodes[i].kind == NodeKind::nvswitch) return static_cast<int>(i);
  Node node;
  node.kind = NodeKind::nvswitch;
  node.name = "NVSwitch";
  return add_node(machine, std::move(node));
}

void claim_peers(Machine& machine, const NvlinkCounts& counts) {
  const PciePaths paths(machine);
  const auto gpus = machine.gpus();
  int hub = -1;
  for (std::size_t i = 0; i < machine.nodes.size(); ++i)
    if (machine.nodes[i].kind == NodeKind::nvswitch) hub = static_cast<int>(i);
  for (const int from : gpus) {
    const auto by_pcie = paths.from(from);
    for (const int to : gpus) {
      if (from == to) continue;
      const unsigned links = std::max(count_of(counts, from, to), count_of(counts, to, from)) +
                             std::min(count_of(counts, from, hub), count_of(counts, to, hub));
      Peer peer;
      peer.from = from;
      peer.to = to;
      peer.path = links > 0 ? fmt::format("NV{}", links) : by_pcie[static_cast<std::size_t>(to)];
      peer.access = !peer.path.empty();
      if (!peer.access) {
        peer.reason = "the description shows no path between them";
        peer.remedy = "ask the machine itself: `collectives topo --json` there";
      }
      peer.native_atomics = links > 0;
      machine.peers.push_back(std::move(peer));
    }
  }
}

void join_sockets(Machine& machine) {
  std::vector<int> cpus;
  for (std::size_t i = 0; i < machine.nodes.size(); ++i)
    if (machine.nodes[i].kind == NodeKind::cpu) cpus.push_back(static_cast<int>(i));
  for (std::size_t a = 0; a < cpus.size(); ++a)
    for (std::size_t b = a + 1; b < cpus.size(); ++b) join(machine, cpus[a], cpus[b], LinkKind::socket, 0);
}

void complete_rates(Machine& machine) {
  for (Link& link : machine.links)
    if (link.gb_per_s == 0) link.gb_per_s = prior_of(machine, link);
  const auto slots = slots_of(machine);
  const PciePaths paths(machine);
  std::map<int, std::vector<double>> narrowest;
  for (Peer& peer : machine.peers) {
    if (!peer.access || peer.gb_per_s > 0) continue;
    const int chip = std::min(node_at(machine, peer.from).compute_capability, node_at(machine, peer.to).compute_capability);
    const double slot = std::min(slots[static_cast<std::size_t>(peer.from)], slots[static_cast<std::size_t>(peer.to)]);
    const Rate rate = direct_rate(peer.path, chip, slot);
    peer.gb_per_s = rate.gb_per_s;
    if (nvlinks_of(peer.path) == 0) {
      const auto [found, fresh] = narrowest.try_emplace(peer.from);
      if (fresh) found->second = paths.narrowest_from(peer.from);
      peer.gb_per_s = std::min(peer.gb_per_s, found->second[static_cast<std::size_t>(peer.to)]);
    }
    if (peer.latency_us == 0) peer.latency_us = rate.latency_us;
  }
}

void check_consistent(const Machine& machine, const SourceText& source, std::size_t offset) {
  if (const auto fault = find_fault(machine)) source.fail(offset, "a consistent machine: " + fault->message);
}

void complete_tree(Machine& machine, const NvlinkCounts& counts, const SourceText& source) {
  join_sockets(machine);
  claim_peers(machine, counts);
  complete_rates(machine);
  check_consistent(machine, source);
}

}  // namespace collectives
