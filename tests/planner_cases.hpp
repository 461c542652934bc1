#pragma once

#include <vector>

#include "planner/program.hpp"
#include "topology/fabric.hpp"

namespace collectives {

/// One choice of every shape of schedule that needs no fabric.
inline std::vector<AlgorithmChoice> every_algorithm() {
  return {{Algorithm::one_shot},     {Algorithm::two_shot},      {Algorithm::ring},
          {Algorithm::binary_tree},  {Algorithm::kary_tree, 1},  {Algorithm::kary_tree, 3},
          {Algorithm::kary_tree, 4}, {Algorithm::kary_tree, 15}, {Algorithm::balanced_tree},
          {Algorithm::double_tree}};
}

/// By sender, who reads out of its pool: nobody, everybody, or every second pair.
inline std::vector<std::vector<RankMask>> ways_to_pull(int ranks) {
  std::vector<RankMask> some(static_cast<std::size_t>(ranks), 0);
  for (int from = 0; from < ranks; ++from)
    for (int to = 0; to < ranks; ++to)
      if ((from + to) % 2 == 1) some[static_cast<std::size_t>(from)] |= mask_of(to);
  return {{}, std::vector<RankMask>(static_cast<std::size_t>(ranks), all_of(ranks)), some};
}

/// GPUs that all reach each other alike through a port each; the defaults are those of NVLink 4 through a switch.
inline Fabric uniform_fabric(int ranks, std::uint32_t mb_per_s = 354'000, std::uint32_t latency_ns = 700) {
  Fabric fabric;
  fabric.backend = Backend::cuda;
  fabric.ranks = ranks;
  fabric.launch_ns = 1250;
  fabric.multiprocessors = 132;
  for (int rank = 0; rank < ranks; ++rank) {
    fabric.resources.push_back({ResourceKind::port_out, rank, rank, mb_per_s});
    fabric.resources.push_back({ResourceKind::port_in, rank, rank, mb_per_s});
  }
  for (int from = 0; from < ranks; ++from)
    for (int to = 0; to < ranks; ++to) {
      FabricLink link{.direct = true, .mb_per_s = mb_per_s, .latency_ns = latency_ns};
      if (from != to) link.route = {static_cast<std::uint16_t>(2 * from), static_cast<std::uint16_t>(2 * to + 1)};
      fabric.links.push_back(link);
      link.direct = from == to;
      link.latency_ns *= 3;
      fabric.staged.push_back(link);
    }
  return fabric;
}

/// A way of its own, beside all others, for this pair alone.
inline void set_link(Fabric& fabric, int from, int to, bool direct, std::uint32_t mb_per_s, std::uint32_t latency_ns) {
  fabric.links[fabric.index(from, to)] = {.direct = direct, .mb_per_s = mb_per_s, .latency_ns = latency_ns};
}

}  // namespace collectives
