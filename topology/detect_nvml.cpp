#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "topology/detect.hpp"
#include "topology/graph.hpp"
#include "topology/nvml.hpp"
#include "topology/nvml_links.hpp"
#include "topology/priors.hpp"

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

/// The GPU of the detection that this device is, or a new node that CUDA has no number for.
int join(const Nvml& nvml, nvml::Device device, Detection& detection) {
  const std::string pci = address_of(nvml, device);
  const std::string uuid = text_of(nvml.uuid, device);
  auto& nodes = detection.machine.nodes;
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
  return detection.add(std::move(node));
}

double slot_of(const Nvml& nvml, nvml::Device device) {
  unsigned generation = 0, width = 0;
  if (!nvml.most_generation || nvml.most_generation(device, &generation) != 0) return 0;
  if (!nvml.most_width || nvml.most_width(device, &width) != 0) return 0;
  return slot_gb_per_s(generation, width);
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

std::string words_for(int status) {
  switch (status) {
    case nvml::chipset:
      return "the driver does not allow it on this chipset, as in most virtual machines";
    case nvml::gpu:
      return "the driver does not allow it for this kind of GPU";
    case nvml::io_hub:
      return "the GPUs are below I/O hubs that do not forward it";
    case nvml::registry:
      return "a registry key of the driver disables it";
    case nvml::not_supported:
      return "the driver does not support it for this pair, as for different chips, MIG or NVSwitches that are down";
  }
  return "the driver does not say why";
}

/// Why CUDA refuses, as far as NVML says. Writes come first: they are what this library does to a peer.
std::string why_refused(const Nvml& nvml, nvml::Device a, nvml::Device b) {
  bool asked = false;
  for (const auto capability : {nvml::write, nvml::read}) {
    const auto status = status_of(nvml, a, b, capability);
    if (status && *status != nvml::ok) return words_for(*status);
    asked = asked || status;
  }
  return asked ? "CUDA refuses although NVML reports it as possible" : "CUDA refuses";
}

/// One GPU as NVML and as the detection know it.
struct Member {
  nvml::Device device;
  int node;
  NvlinkEnds ends;
};

void describe_pair(const Nvml& nvml, const Member& from, const Member& to, Detection& detection) {
  const auto blocked = status_of(nvml, from.device, to.device, nvml::nvlink);
  // A GPU may be wired to a switch that is not set up to lead to every other GPU.
  const bool switched = !blocked || *blocked == nvml::ok;
  const unsigned direct = from.ends.to(detection.machine.nodes[static_cast<std::size_t>(to.node)].pci);
  const unsigned links = direct + (switched ? std::min(from.ends.to_switch, to.ends.to_switch) : 0);
  Peer& peer = detection.peer(from.node, to.node);
  peer.path = links > 0 ? fmt::format("NV{}", links) : pcie_path(nvml, from.device, to.device);
  const auto seen = [&](const Member& member) { return detection.machine.nodes[static_cast<std::size_t>(member.node)].device >= 0; };
  if (!seen(from) || !seen(to))
    peer.reason = "CUDA cannot see one of them";
  else if (!peer.access)
    peer.reason = why_refused(nvml, from.device, to.device);
  if (direct > 0) detection.machine.links.push_back(nvlink(from.node, to.node, direct * from.ends.line_gb_per_s));
}

/// All NVSwitches as one node: they are not told apart by anything that a plan could use.
void add_switch(const std::vector<Member>& members, Detection& detection) {
  const auto on_switch = [](const Member& member) { return member.ends.to_switch > 0; };
  if (std::none_of(members.begin(), members.end(), on_switch)) return;
  Node node;
  node.kind = NodeKind::nvswitch;
  node.name = "NVSwitch";
  const int hub = detection.add(std::move(node));
  for (const Member& member : members) {
    if (!on_switch(member)) continue;
    const double rate = member.ends.to_switch * member.ends.line_gb_per_s;
    detection.machine.links.push_back(nvlink(member.node, hub, rate));
    detection.machine.links.push_back(nvlink(hub, member.node, rate));
  }
}

std::vector<Member> find_members(const Nvml& nvml, Detection& detection) {
  unsigned count = 0;
  if (!nvml.count || !nvml.handle || nvml.count(&count) != 0) return {};
  std::vector<Member> members;
  for (unsigned i = 0; i < count; ++i) {
    nvml::Device device = nullptr;
    if (nvml.handle(i, &device) != 0) continue;
    const int node = join(nvml, device, detection);
    members.push_back({device, node, {}});
    detection.slot_gb_per_s[static_cast<std::size_t>(node)] = slot_of(nvml, device);
  }
  // The far ends of links are looked up among all GPUs, so all must be known first.
  for (Member& member : members) member.ends = nvlink_ends(nvml, member.device, detection.machine, member.node);
  return members;
}

}  // namespace

void read_nvml(const Nvml& nvml, Detection& detection) {
  if (!nvml.init || nvml.init() != 0) return;
  detection.machine.driver = text_of(nvml.driver_version);
  const auto members = find_members(nvml, detection);
  for (const Member& from : members)
    for (const Member& to : members)
      if (from.node != to.node) describe_pair(nvml, from, to, detection);
  add_switch(members, detection);
  if (nvml.shutdown) nvml.shutdown();
}

void add_nvml(Detection& detection) { read_nvml(open_nvml(), detection); }

}  // namespace collectives
