#include "topology/detect.hpp"

#include <algorithm>

#include "topology/assemble.hpp"
#include "topology/graph.hpp"
#include "topology/priors.hpp"

namespace collectives {
namespace {

bool has_pcie_link(const Machine& machine, int node) {
  return std::any_of(machine.links.begin(), machine.links.end(),
                     [node](const Link& link) { return link.from == node && link.kind == LinkKind::pcie; });
}

}  // namespace

void complete(Machine& machine) {
  for (const int gpu : machine.gpus()) {
    const Node& node = machine.nodes[static_cast<std::size_t>(gpu)];
    const int cpu = node.numa < 0 ? -1 : numa_node(machine, node.numa);
    if (cpu >= 0 && !has_pcie_link(machine, gpu))
      join(machine, gpu, cpu, LinkKind::pcie,
           slot_gb_per_s(static_cast<unsigned>(node.pcie_generation), static_cast<unsigned>(node.pcie_width)));
  }
  join_sockets(machine);
  complete_rates(machine);
}

Machine detect_machine() {
  const std::filesystem::path root = "/";
  Machine machine;
  add_platform(machine, root);
  add_cuda(machine);
#if COLLECTIVES_HAS_CUDA
  add_nvml(machine);
#endif
  add_hwloc(machine);
  add_numa_nodes(machine, root);
  add_sysfs(machine, root);
  complete(machine);
  return machine;
}

}  // namespace collectives
