#pragma once

#include <collectives/topology.hpp>
#include <map>
#include <string>

#include "topology/nvml.hpp"

namespace collectives {

/// Where one GPU's active NVLinks lead.
struct NvlinkEnds {
  std::map<std::string, unsigned> to_gpu;  ///< by PCI address
  unsigned to_switch = 0;                  ///< also those whose far end is hidden, as in virtual machines
  double line_gb_per_s = 0;                ///< of one link, nominal

  unsigned to(const std::string& pci) const {
    const auto found = to_gpu.find(pci);
    return found == to_gpu.end() ? 0 : found->second;
  }
};

/// `device` is the GPU at `node` of `machine`, which holds all GPUs.
NvlinkEnds nvlink_ends(const Nvml& nvml, nvml::Device device, const Machine& machine, int node);

}  // namespace collectives
