// NUMA nodes and where PCI devices hang: nothing else is taken from hwloc. Its link speeds are those of idle links, its NVLink
// matrix omits Hopper in the versions that distributions ship, and its plugins for GPUs are kept out, since they would start
// drivers to tell what CUDA and NVML have told already.
#include <fmt/format.h>
#include <hwloc.h>

#include <cstdio>
#include <memory>

#include "topology/assemble.hpp"
#include "topology/detect.hpp"
#include "topology/graph.hpp"

namespace collectives {
namespace {

struct Destroy {
  void operator()(hwloc_topology_t topology) const { hwloc_topology_destroy(topology); }
};
using Topology = std::unique_ptr<hwloc_topology, Destroy>;

Topology load() {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) return {};
  Topology topology(raw);
  // "pci" leaks at each load; without it PCI devices come from /sys, where hwloc reads them as well.
  for (const char* plugin : {"cuda", "nvml", "opencl", "gl", "rsmi", "levelzero", "pci"})
    (void)hwloc_topology_set_components(raw, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, plugin);
  (void)hwloc_topology_set_io_types_filter(raw, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
  if (hwloc_topology_load(raw) != 0) return {};
  return topology;
}

/// The number of the one NUMA node that a PCI device is near to; -1 if the machine does not say or names several.
int numa_of(hwloc_topology_t topology, const std::string& pci) {
  unsigned domain = 0, bus = 0, device = 0, function = 0;
  if (std::sscanf(pci.c_str(), "%x:%x:%x.%x", &domain, &bus, &device, &function) != 4) return -1;
  hwloc_obj_t found = hwloc_get_pcidev_by_busid(topology, domain, bus, device, function);
  if (!found) return -1;
  const hwloc_obj_t place = hwloc_get_non_io_ancestor_obj(topology, found);
  if (!place || !place->nodeset || hwloc_bitmap_weight(place->nodeset) != 1) return -1;
  return hwloc_bitmap_first(place->nodeset);
}

/// Memory of a GPU that the system shows as a NUMA node: no CPU is there, and pools must not be put there.
bool is_gpu_memory(hwloc_obj_t numa) { return numa->subtype && std::string_view(numa->subtype) == "GPUMemory"; }

void add_numa_nodes(hwloc_topology_t topology, Machine& machine) {
  const int count = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_NUMANODE);
  for (int i = 0; i < count; ++i) {
    hwloc_obj_t numa = hwloc_get_obj_by_type(topology, HWLOC_OBJ_NUMANODE, static_cast<unsigned>(i));
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
  const Topology topology = load();
  if (!topology) return;
  if (const char* product = hwloc_obj_get_info_by_name(hwloc_get_root_obj(topology.get()), "DMIProductName")) machine.name = product;
  for (Node& node : machine.nodes)
    if (node.kind == NodeKind::gpu && !node.pci.empty()) node.numa = numa_of(topology.get(), node.pci);
  add_numa_nodes(topology.get(), machine);
}

}  // namespace collectives
