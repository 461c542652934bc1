#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "topology/assemble.hpp"
#include "topology/detect.hpp"
#include "topology/graph.hpp"
#include "topology/nvml.hpp"
#include "topology/nvml_links.hpp"
#include "topology/refusals.hpp"

namespace collectives {
namespace {

/// Text from one of NVML's calls; empty if there is no such function or it fails.
template <typename Function, typename... Leading>
std::string text_of(Function function, Leading... leading) {
  char buffer[128] = "";
  if (!function || function(leading..., buffer, sizeof buffer) != 0) return "";
  buffer[sizeof buffer - 1] = '\0';
  return buffer;
}

std::string address_of(const Nvml& nvml, nvml::Device device) {
  nvml::PciInfo info{};
  if (!nvml.pci || nvml.pci(device, &info) != 0) return "";
  return pci_address(info.domain, info.bus, info.device, 0);
}

/// The GPU of the machine that this device is, or a new node that CUDA has no number for.
int node_of(const Nvml& nvml, nvml::Device device, Machine& machine) {
  const std::string pci = address_of(nvml, device);
  const std::string uuid = text_of(nvml.uuid, device);
  auto& nodes = machine.nodes;
  const auto matching = [&](std::string Node::*member, const std::string& value) {
    for (std::size_t i = 0; i < nodes.size(); ++i)
      if (!value.empty() && nodes[i].*member == value) return static_cast<int>(i);
    return -1;
  };
  if (const int found = matching(&Node::pci, pci); found >= 0) return found;
  if (const int found = matching(&Node::uuid, uuid); found >= 0) return found;
  Node node;
  node.name = text_of(nvml.name, device);
  node.pci = pci;
  node.uuid = uuid;
  int major = 0, minor = 0;
  if (nvml.compute_capability && nvml.compute_capability(device, &major, &minor) == 0) node.compute_capability = 10 * major + minor;
  return add_node(machine, std::move(node));
}

/// What the device and the system can do at most, the window to its memory, and whether it is partitioned.
void describe(const Nvml& nvml, nvml::Device device, Node& node) {
  unsigned generation = 0, width = 0;
  if (nvml.most_generation && nvml.most_generation(device, &generation) == 0) node.pcie_generation = static_cast<int>(generation);
  if (nvml.most_width && nvml.most_width(device, &width) == 0) node.pcie_width = static_cast<int>(width);
  nvml::Bar1Memory memory{};
  if (nvml.bar1 && nvml.bar1(device, &memory) == 0) node.bar1_bytes = memory.total;
  unsigned current = 0, pending = 0;
  if (nvml.mig && nvml.mig(device, &current, &pending) == 0) node.mig = current == 1;
}

std::string pcie_path(const Nvml& nvml, nvml::Device a, nvml::Device b) {
  int ancestor = 0;
  if (!nvml.ancestor || nvml.ancestor(a, b, &ancestor) != 0) return "";
  switch (ancestor) {
    case nvml::internal:
    case nvml::single:
      return "PIX";
    case nvml::multiple:
      return "PXB";
    case nvml::host_bridge:
      return "PHB";
    case nvml::node:
      return "NODE";
    case nvml::system:
      return "SYS";
  }
  return "";
}

std::optional<int> status_of(const Nvml& nvml, nvml::Device a, nvml::Device b, nvml::Capability capability) {
  int status = 0;
  if (!nvml.peer_status || nvml.peer_status(a, b, capability, &status) != 0) return {};
  return status;
}

/// The status by which the driver refuses a pair, `ok` if it does not, nothing if it does not say. Writes come first: they are
/// what this library does to a peer.
std::optional<int> refused_status(const Nvml& nvml, nvml::Device a, nvml::Device b) {
  std::optional<int> answer;
  for (const auto capability : {nvml::write, nvml::read}) {
    const auto status = status_of(nvml, a, b, capability);
    if (status) answer = status;
    if (status && *status != nvml::ok) break;
  }
  return answer;
}

/// One GPU as NVML knows it, and its node.
struct Member {
  nvml::Device device;
  int node;
  NvlinkEnds ends;
};

void describe_pair(const Nvml& nvml, const Member& from, const Member& to, Machine& machine) {
  const Node &sender = machine.nodes[static_cast<std::size_t>(from.node)], &receiver = machine.nodes[static_cast<std::size_t>(to.node)];
  const auto blocked = status_of(nvml, from.device, to.device, nvml::nvlink);
  // A GPU may be wired to a switch that is not set up to lead to every other GPU.
  const bool switched = !blocked || *blocked == nvml::ok;
  const unsigned direct = from.ends.to(receiver.pci);
  const unsigned links = direct + (switched ? std::min(from.ends.to_switch, to.ends.to_switch) : 0);
  Peer& peer = peer_entry(machine, from.node, to.node);
  peer.path = links > 0 ? fmt::format("NV{}", links) : pcie_path(nvml, from.device, to.device);
  if (!peer.access) {
    const Refusal refusal = refusal_of(refused_status(nvml, from.device, to.device), machine, sender, receiver);
    peer.reason = refusal.reason;
    peer.remedy = refusal.remedy;
  }
  if (direct > 0) machine.links.push_back({from.node, to.node, LinkKind::nvlink, direct * from.ends.line_gb_per_s, 0, Evidence::claimed});
}

void add_switch(const std::vector<Member>& members, Machine& machine) {
  for (const Member& member : members)
    if (member.ends.to_switch > 0)
      join(machine, member.node, nvswitch_of(machine), LinkKind::nvlink, member.ends.to_switch * member.ends.line_gb_per_s);
}

std::vector<Member> find_members(const Nvml& nvml, Machine& machine) {
  unsigned count = 0;
  if (!nvml.count || !nvml.handle || nvml.count(&count) != 0) return {};
  std::vector<Member> members;
  for (unsigned i = 0; i < count; ++i) {
    nvml::Device device = nullptr;
    if (nvml.handle(i, &device) != 0) continue;
    const int node = node_of(nvml, device, machine);
    members.push_back({device, node, {}});
    describe(nvml, device, machine.nodes[static_cast<std::size_t>(node)]);
  }
  // The far ends of links are looked up among all GPUs, so all must be known first.
  for (Member& member : members) member.ends = nvlink_ends(nvml, member.device, machine, member.node);
  return members;
}

}  // namespace

void read_nvml(const Nvml& nvml, Machine& machine) {
  if (!nvml.init || nvml.init() != 0) return;
  machine.driver = text_of(nvml.driver_version);
  const auto members = find_members(nvml, machine);
  for (const Member& from : members)
    for (const Member& to : members)
      if (from.node != to.node) describe_pair(nvml, from, to, machine);
  add_switch(members, machine);
  if (nvml.shutdown) nvml.shutdown();
}

void add_nvml(Machine& machine) { read_nvml(open_nvml(), machine); }

}  // namespace collectives
