#include "topology/graph.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>

#include "base/require.hpp"
#include "topology/names.hpp"

namespace collectives {
namespace {

using List = Fault::List;
using Complaint = std::optional<std::string>;

Complaint check_figures(double gb_per_s, double latency_us) {
  if (!std::isfinite(gb_per_s) || gb_per_s < 0) return "gb_per_s is not a finite number from 0 up";
  if (!std::isfinite(latency_us) || latency_us < 0) return "latency_us is not a finite number from 0 up";
  return {};
}

Complaint check_ends(const Machine& machine, int from, int to) {
  const int count = static_cast<int>(machine.nodes.size());
  if (from < 0 || from >= count) return fmt::format("from is {}, but the nodes are 0 to {}", from, count - 1);
  if (to < 0 || to >= count) return fmt::format("to is {}, but the nodes are 0 to {}", to, count - 1);
  if (from == to) return fmt::format("it goes from node {} to itself", from);
  return {};
}

/// What no two nodes may share.
struct SeenNodes {
  std::set<std::string_view> pci, uuid;
  std::set<int> device, numa;
};

Complaint check_node(const Node& node, SeenNodes& seen) {
  if (!is_known(node.kind)) return "its kind is not one of the enumeration";
  if (node.device < -1) return "device is below -1";
  if (node.numa < -1) return "numa is below -1";
  if (node.compute_capability < 0) return "compute_capability is negative";
  if (node.multiprocessors < 0) return "multiprocessors is negative";
  if (node.pcie_generation < 0 || node.pcie_width < 0) return "pcie_generation or pcie_width is negative";
  if (node.device >= 0 && node.kind != NodeKind::gpu) return "only a GPU has a device";
  if (!node.pci.empty() && !is_pci_address(node.pci))
    return fmt::format("pci is '{}', expected a full lower-case address such as 0000:01:00.0", node.pci.substr(0, 40));
  if (!node.pci.empty() && !seen.pci.insert(node.pci).second) return fmt::format("another node has the PCI address {}, too", node.pci);
  if (!node.uuid.empty() && !seen.uuid.insert(node.uuid).second) return "another node has the same uuid";
  if (node.device >= 0 && !seen.device.insert(node.device).second) return fmt::format("another GPU is device {}, too", node.device);
  if (node.kind == NodeKind::cpu && node.numa >= 0 && !seen.numa.insert(node.numa).second)
    return fmt::format("another cpu node is NUMA node {}, too", node.numa);
  return {};
}

Complaint check_link(const Machine& machine, const Link& link, std::set<std::tuple<int, int, LinkKind>>& seen) {
  if (auto complaint = check_ends(machine, link.from, link.to)) return complaint;
  if (!is_known(link.kind) || !is_known(link.evidence)) return "its kind or evidence is not one of the enumeration";
  if (auto complaint = check_figures(link.gb_per_s, link.latency_us)) return complaint;
  if (!seen.emplace(link.from, link.to, link.kind).second) return "another link of this kind has the same ends";
  return {};
}

Complaint check_peer(const Machine& machine, const Peer& peer, std::set<std::pair<int, int>>& seen) {
  if (auto complaint = check_ends(machine, peer.from, peer.to)) return complaint;
  for (const int end : {peer.from, peer.to})
    if (machine.nodes[static_cast<std::size_t>(end)].kind != NodeKind::gpu) return fmt::format("node {} is not a GPU", end);
  if (!is_known(peer.evidence)) return "its evidence is not one of the enumeration";
  if (auto complaint = check_figures(peer.gb_per_s, peer.latency_us)) return complaint;
  if (!seen.emplace(peer.from, peer.to).second) return "another entry has the same ends";
  return {};
}

/// The first element of `list` that `check` complains about.
template <typename Elements, typename Check>
std::optional<Fault> first_fault(List list, const char* one, std::size_t limit, const Elements& elements, Check check) {
  if (elements.size() > limit) return Fault{list, limit, fmt::format("{} {}: a machine has at most {} of them", one, limit, limit)};
  for (std::size_t i = 0; i < elements.size(); ++i)
    if (const Complaint complaint = check(elements[i])) return Fault{list, i, fmt::format("{} {}: {}", one, i, *complaint)};
  return {};
}

}  // namespace

std::optional<Fault> find_fault(const Machine& machine) {
  SeenNodes nodes;
  std::set<std::tuple<int, int, LinkKind>> links;
  std::set<std::pair<int, int>> peers;
  auto fault = first_fault(List::nodes, "node", max_nodes, machine.nodes, [&](const Node& node) { return check_node(node, nodes); });
  if (!fault)
    fault = first_fault(List::links, "link", max_links, machine.links, [&](const Link& link) { return check_link(machine, link, links); });
  if (!fault)
    fault = first_fault(List::peers, "peer", max_peers, machine.peers, [&](const Peer& peer) { return check_peer(machine, peer, peers); });
  return fault;
}

void validate(const Machine& machine) {
  if (const auto fault = find_fault(machine)) throw Error(ErrorCode::invalid_argument, fault->message);
}

std::vector<int> Machine::gpus() const {
  std::vector<int> found;
  for (std::size_t i = 0; i < nodes.size(); ++i)
    if (nodes[i].kind == NodeKind::gpu) found.push_back(static_cast<int>(i));
  std::stable_sort(found.begin(), found.end(), [&](int a, int b) {
    // As unsigned, -1 (CUDA cannot see it) comes last.
    return static_cast<unsigned>(nodes[static_cast<std::size_t>(a)].device) <
           static_cast<unsigned>(nodes[static_cast<std::size_t>(b)].device);
  });
  return found;
}

const Peer* Machine::peer(int from, int to) const {
  const auto found = std::find_if(peers.begin(), peers.end(), [&](const Peer& peer) { return peer.from == from && peer.to == to; });
  return found == peers.end() ? nullptr : &*found;
}

std::string pci_address(std::uint32_t domain, std::uint32_t bus, std::uint32_t device, std::uint32_t function) {
  return fmt::format("{:04x}:{:02x}:{:02x}.{:x}", domain, bus, device, function);
}

bool is_pci_address(std::string_view text) {
  const auto colon = text.find(':');
  if (colon == std::string_view::npos || colon < 4 || colon > 8) return false;
  // One spelling an address, since sources are joined by comparing text.
  if (colon > 4 && text[0] == '0') return false;
  const std::string_view pattern = ":xx:xx.x";
  if (text.size() != colon + pattern.size()) return false;
  const auto is_digit = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char expected = i < colon ? 'x' : pattern[i - colon];
    if (expected == 'x' ? !is_digit(text[i]) : text[i] != expected) return false;
  }
  return true;
}

int numa_node(const Machine& machine, int number) {
  for (std::size_t i = 0; i < machine.nodes.size(); ++i)
    if (machine.nodes[i].kind == NodeKind::cpu && machine.nodes[i].numa == number) return static_cast<int>(i);
  return -1;
}

}  // namespace collectives
