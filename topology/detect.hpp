#pragma once

#include <collectives/topology.hpp>
#include <filesystem>

namespace collectives {

/// The sources of a detection, in the order in which they build on each other. Each adds what it finds and throws nothing for
/// what it does not: a call that fails leaves its field at the default. `root` holds proc/ and sys/; tests have trees of their own.

/// Whether this is a virtual machine, and of what.
void add_platform(Machine& machine, const std::filesystem::path& root);
void add_cuda(Machine& machine);
void add_nvml(Machine& machine);
/// NUMA nodes, where there is an hwloc.
void add_hwloc(Machine& machine);
/// NUMA nodes with CPUs, and the machine's name, where hwloc has not told them.
void add_numa_nodes(Machine& machine, const std::filesystem::path& root);
/// Between GPUs and NUMA nodes: switches and host bridges, what slots and uplinks can do, BAR1, ACS and the IOMMU.
void add_sysfs(Machine& machine, const std::filesystem::path& root);

/// Joins the parts: links that no source gave, and rates.
void complete(Machine& machine);

}  // namespace collectives
