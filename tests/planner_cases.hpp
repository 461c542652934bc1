#pragma once

#include <vector>

#include "planner/program.hpp"
#include "topology/fabric.hpp"

namespace collectives {

/// One choice of every shape of schedule there is.
inline std::vector<AlgorithmChoice> every_algorithm() {
  return {{Algorithm::one_shot},     {Algorithm::two_shot},      {Algorithm::ring},
          {Algorithm::binary_tree},  {Algorithm::kary_tree, 1},  {Algorithm::kary_tree, 3},
          {Algorithm::kary_tree, 4}, {Algorithm::kary_tree, 15}, {Algorithm::balanced_tree}};
}

/// GPUs that all reach each other alike; the defaults are those of NVLink 4 through a switch.
inline Fabric uniform_fabric(int ranks, std::uint32_t mb_per_s = 354'000, std::uint32_t latency_ns = 700) {
  Fabric fabric;
  fabric.backend = Backend::cuda;
  fabric.ranks = ranks;
  fabric.port_mb_per_s = mb_per_s;
  fabric.launch_ns = 2000;
  fabric.multiprocessors = 132;
  fabric.links.assign(static_cast<std::size_t>(ranks * ranks), FabricLink{true, mb_per_s, latency_ns});
  return fabric;
}

}  // namespace collectives
