// The tree of PCIe as the kernel shows it. On the way down from a host bridge ports take turns: a root port, then for every
// switch its upper end and one of its lower ports. The upper end stands for the switch.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "topology/assemble.hpp"
#include "topology/detect.hpp"
#include "topology/graph.hpp"
#include "topology/priors.hpp"
#include "topology/sysfs.hpp"

namespace collectives {
namespace {

/// What both ends of a link can do; where one does not say, the other decides.
Sysfs::Slot lesser(Sysfs::Slot a, Sysfs::Slot b) {
  const auto least = [](int one, int other) { return one == 0 || other == 0 ? std::max(one, other) : std::min(one, other); };
  return {least(a.generation, b.generation), least(a.width, b.width)};
}

double rate_of(const Node& node) {
  return slot_gb_per_s(static_cast<unsigned>(node.pcie_generation), static_cast<unsigned>(node.pcie_width));
}

class SysfsTree {
 public:
  SysfsTree(Machine& machine, const Sysfs& sysfs) : machine_(machine), sysfs_(sysfs) {}

  void hang(int gpu) {
    const std::string pci = node(gpu).pci;
    const Sysfs::Chain chain = sysfs_.chain(pci);
    if (chain.host_bridge.empty() || chain.devices.empty()) return;
    if (node(gpu).numa < 0) node(gpu).numa = sysfs_.numa(pci);
    if (node(gpu).bar1_bytes == 0) node(gpu).bar1_bytes = sysfs_.bar1_bytes(pci);
    // One GPU whose addresses are translated is enough to slow its pairs.
    if (const std::string iommu = sysfs_.iommu(pci); machine_.iommu != "translated" && !iommu.empty()) machine_.iommu = iommu;
    int above = host_bridge(chain, gpu);
    const auto& devices = chain.devices;
    for (std::size_t i = 0; i + 1 < devices.size(); ++i) {
      if (i % 2 == 1) above = pci_switch(chain, i, above, gpu);
      if (sysfs_.acs_redirects(devices[i])) node(above).acs_redirect = true;
    }
    const Sysfs::Slot slot = slot_of(chain, devices.size() - 1, {node(gpu).pcie_generation, node(gpu).pcie_width});
    node(gpu).pcie_generation = slot.generation;
    node(gpu).pcie_width = slot.width;
    join(machine_, gpu, above, LinkKind::pcie, rate_of(node(gpu)));
  }

 private:
  Node& node(int index) { return machine_.nodes[static_cast<std::size_t>(index)]; }

  /// Of the device at a place of the chain: what it, the port above it and `otherwise` allow.
  Sysfs::Slot slot_of(const Sysfs::Chain& chain, std::size_t place, Sysfs::Slot otherwise) const {
    const Sysfs::Slot own = lesser(sysfs_.most(chain.devices[place]), otherwise);
    return place == 0 ? own : lesser(own, sysfs_.most(chain.devices[place - 1]));
  }

  int host_bridge(const Sysfs::Chain& chain, int gpu) {
    const auto [place, added] = known_.emplace(chain.host_bridge, 0);
    if (!added) return place->second;
    Node bridge;
    bridge.kind = NodeKind::host_bridge;
    bridge.name = chain.host_bridge;
    bridge.numa = node(gpu).numa;
    place->second = add_node(machine_, std::move(bridge));
    if (const int cpu = cpu_of(node(gpu).numa); cpu >= 0) join(machine_, place->second, cpu, LinkKind::memory, 0);
    return place->second;
  }

  int pci_switch(const Sysfs::Chain& chain, std::size_t i, int above, int gpu) {
    const auto [place, added] = known_.emplace(chain.devices[i], 0);
    if (!added) return place->second;
    Node found;
    found.kind = NodeKind::pci_switch;
    found.name = "PCIe switch";
    found.pci = chain.devices[i];
    found.numa = node(gpu).numa;
    const Sysfs::Slot slot = slot_of(chain, i, {});
    found.pcie_generation = slot.generation;
    found.pcie_width = slot.width;
    place->second = add_node(machine_, std::move(found));
    join(machine_, place->second, above, LinkKind::pcie, rate_of(node(place->second)));
    return place->second;
  }

  /// The NUMA node with this number; where devices do not say theirs, the only one there is.
  int cpu_of(int numa) const {
    int only = -1, count = 0;
    for (std::size_t i = 0; i < machine_.nodes.size(); ++i)
      if (machine_.nodes[i].kind == NodeKind::cpu) only = static_cast<int>(i), ++count;
    return numa >= 0 ? numa_node(machine_, numa) : count == 1 ? only : -1;
  }

  Machine& machine_;
  const Sysfs& sysfs_;
  std::map<std::string, int> known_;  ///< nodes of host bridges and switches, by the kernel's names
};

}  // namespace

void add_platform(Machine& machine, const std::filesystem::path& root) { machine.hypervisor = Sysfs(root).hypervisor(); }

void add_numa_nodes(Machine& machine, const std::filesystem::path& root) {
  const Sysfs sysfs(root);
  if (machine.name.empty()) machine.name = sysfs.product();
  if (std::any_of(machine.nodes.begin(), machine.nodes.end(), [](const Node& node) { return node.kind == NodeKind::cpu; })) return;
  for (const Sysfs::NumaNode& numa : sysfs.numa_nodes()) {
    Node node;
    node.kind = NodeKind::cpu;
    node.name = fmt::format("NUMA {}", numa.number);
    node.numa = numa.number;
    node.memory_bytes = numa.memory_bytes;
    add_node(machine, std::move(node));
  }
}

void add_sysfs(Machine& machine, const std::filesystem::path& root) {
  const Sysfs sysfs(root);
  SysfsTree tree(machine, sysfs);
  for (const int gpu : machine.gpus())
    if (!machine.nodes[static_cast<std::size_t>(gpu)].pci.empty()) tree.hang(gpu);
}

}  // namespace collectives
