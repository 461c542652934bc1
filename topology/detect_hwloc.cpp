// NUMA nodes and where PCI devices hang: nothing else is taken from hwloc. Its link speeds are those of idle links, its NVLink
// matrix omits Hopper in the versions that distributions ship, and its plugins for GPUs are kept out, since they would start
// drivers to tell what CUDA and NVML have told already.
#include <fmt/format.h>

#include <cstdio>
#include <memory>

#include "topology/assemble.hpp"
#include "topology/detect.hpp"
#include "topology/graph.hpp"
#include "topology/hwloc_functions.hpp"

namespace collectives {
namespace {

using Topology = std::unique_ptr<hwloc_topology, decltype(&hwloc_topology_destroy)>;

/// Empty if hwloc cannot tell.
Topology load(const HwlocFunctions& hwloc) {
  hwloc_topology_t raw = nullptr;
  Topology none(nullptr, hwloc.destroy);
  if (hwloc.init(&raw) != 0) return none;
  Topology topology(raw, hwloc.destroy);
  // "pci" leaks at each load; without it PCI devices come from /sys, where hwloc reads them as well.
  for (const char* plugin : {"cuda", "nvml", "opencl", "gl", "rsmi", "levelzero", "pci"})
    (void)hwloc.set_components(raw, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, plugin);
  (void)hwloc.set_io_types_filter(raw, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
  if (hwloc.load(raw) != 0) return none;
  return topology;
}

struct PciAddress {
  unsigned domain = 0, bus = 0, device = 0, function = 0;
};

hwloc_obj_t find_pci_device(const HwlocFunctions& hwloc, hwloc_topology_t topology, const PciAddress& wanted) {
  const unsigned count = hwloc.count_at(topology, HWLOC_TYPE_DEPTH_PCI_DEVICE);
  for (unsigned i = 0; i < count; ++i) {
    hwloc_obj_t object = hwloc.object_at(topology, HWLOC_TYPE_DEPTH_PCI_DEVICE, i);
    const auto& own = object->attr->pcidev;
    if (own.domain == wanted.domain && own.bus == wanted.bus && own.dev == wanted.device && own.func == wanted.function) return object;
  }
  return nullptr;
}

/// The number of the one NUMA node that a PCI device is near to; -1 if the machine does not say or names several.
int numa_of(const HwlocFunctions& hwloc, hwloc_topology_t topology, const std::string& pci) {
  PciAddress wanted;
  if (std::sscanf(pci.c_str(), "%x:%x:%x.%x", &wanted.domain, &wanted.bus, &wanted.device, &wanted.function) != 4) return -1;
  hwloc_obj_t found = find_pci_device(hwloc, topology, wanted);
  if (!found) return -1;
  const hwloc_obj_t place = hwloc_get_non_io_ancestor_obj(topology, found);
  if (!place || !place->nodeset || hwloc.weight(place->nodeset) != 1) return -1;
  return hwloc.first(place->nodeset);
}

/// Memory of a GPU that the system shows as a NUMA node: no CPU is there, and pools must not be put there.
bool is_gpu_memory(hwloc_obj_t numa) { return numa->subtype && std::string_view(numa->subtype) == "GPUMemory"; }

void add_nodes_of(const HwlocFunctions& hwloc, hwloc_topology_t topology, Machine& machine) {
  const unsigned count = hwloc.count_at(topology, HWLOC_TYPE_DEPTH_NUMANODE);
  for (unsigned i = 0; i < count; ++i) {
    hwloc_obj_t numa = hwloc.object_at(topology, HWLOC_TYPE_DEPTH_NUMANODE, i);
    if (!numa || is_gpu_memory(numa)) continue;
    Node node;
    node.kind = NodeKind::cpu;
    node.name = fmt::format("NUMA {}", numa->os_index);
    node.numa = static_cast<int>(numa->os_index);
    node.memory_bytes = numa->attr->numanode.local_memory;
    add_node(machine, std::move(node));
  }
}

}  // namespace

void add_hwloc(Machine& machine) {
  const HwlocFunctions* hwloc = hwloc_if_there();
  if (!hwloc) return;
  const Topology topology = load(*hwloc);
  if (!topology) return;
  if (const char* product = hwloc_obj_get_info_by_name(hwloc->object_at(topology.get(), 0, 0), "DMIProductName")) machine.name = product;
  for (Node& node : machine.nodes)
    if (node.kind == NodeKind::gpu && !node.pci.empty()) node.numa = numa_of(*hwloc, topology.get(), node.pci);
  add_nodes_of(*hwloc, topology.get(), machine);
}

}  // namespace collectives
