#include "topology/nvml_links.hpp"

#include <optional>

#include "topology/graph.hpp"
#include "topology/priors.hpp"

namespace collectives {
namespace {

/// Whether a link is up; nothing where the GPU has no such link. From Hopper on only the field says so on every driver.
std::optional<bool> is_active(const Nvml& nvml, nvml::Device device, unsigned link) {
  if (nvml.fields) {
    nvml::FieldValue field{};
    field.field = nvml::field_link_state;
    field.scope = link;
    if (nvml.fields(device, 1, &field) == 0 && field.result == 0) return field.value.number != 0;
  }
  unsigned active = 0;
  if (nvml.link_state && nvml.link_state(device, link, &active) == 0) return active != 0;
  return {};
}

struct Found {
  std::vector<unsigned> active;
  bool has_links = false;
};

Found active_links(const Nvml& nvml, nvml::Device device) {
  Found found;
  for (unsigned link = 0; link < nvml::most_links; ++link) {
    const auto active = is_active(nvml, device, link);
    found.has_links = found.has_links || active;
    if (active.value_or(false)) found.active.push_back(link);
  }
  return found;
}

/// Asking what a link can do trains it, where nothing has yet. It is asked only where every link is down: on a half-seated
/// bridge the call takes minutes.
void train_links(const Nvml& nvml, nvml::Device device) {
  unsigned result = 0;
  for (unsigned link = 0; nvml.link_capability && link < nvml::most_links; ++link)
    (void)nvml.link_capability(device, link, nvml::capability_peer_to_peer, &result);
}

/// The far end's address, or empty where the driver hides it: virtual machines give nothing or all ones.
std::string far_address(const Nvml& nvml, nvml::Device device, unsigned link) {
  nvml::PciInfo info{};
  if (!nvml.link_remote_pci || nvml.link_remote_pci(device, link, &info) != 0) return "";
  const std::string address = pci_address(info.domain, info.bus, info.device, 0);
  const bool nothing = info.domain == 0 && info.bus == 0 && info.device == 0;
  return nothing || info.bus > 0xff || info.device > 0x1f || !is_pci_address(address) ? "" : address;
}

bool is_gpu(const Machine& machine, const std::string& pci) {
  for (const Node& node : machine.nodes)
    if (node.kind == NodeKind::gpu && !pci.empty() && node.pci == pci) return true;
  return false;
}

}  // namespace

NvlinkEnds nvlink_ends(const Nvml& nvml, nvml::Device device, const Machine& machine, int node) {
  const Node& own = machine.nodes[static_cast<std::size_t>(node)];
  NvlinkEnds ends;
  Found found = active_links(nvml, device);
  if (found.has_links && found.active.empty()) {
    train_links(nvml, device);
    found = active_links(nvml, device);
  }
  for (const unsigned link : found.active) {
    unsigned version = 0;
    if (nvml.link_version) (void)nvml.link_version(device, link, &version);
    ends.line_gb_per_s = nvlink_line_gb_per_s(version, own.compute_capability);
    int type = nvml::remote_unknown;
    if (nvml.link_remote_type && nvml.link_remote_type(device, link, &type) != 0) type = nvml::remote_unknown;
    if (type == nvml::remote_power_cpu) continue;
    const std::string far = far_address(nvml, device, link);
    // Some clouds describe a GPU as linked to itself; such a link tells nothing of its far end.
    if (type != nvml::remote_switch && far != own.pci && is_gpu(machine, far)) ++ends.to_gpu[far];
    // A GPU at an address that is not among ours belongs to someone else.
    else if (type != nvml::remote_gpu || far.empty() || far == own.pci)
      ++ends.to_switch;
  }
  return ends;
}

}  // namespace collectives
