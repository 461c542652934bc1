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

/// 2 to 16; a few of them under AddressSanitizer, which takes ten times as long and looks at memory alone.
inline std::vector<int> rank_counts() {
#if defined(__SANITIZE_ADDRESS__)
  return {2, 3, 5, 8, 16};
#else
  return {2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
#endif
}

/// All slots with their receivers, in pools; all in common memory with their senders; every second pair's with their senders, in pools and in
/// common memory in turn, the others' with their receivers in pools.
inline std::vector<SlotPlaces> ways_to_place(int ranks) {
  const std::vector<RankMask> all(static_cast<std::size_t>(ranks), all_of(ranks)), none(static_cast<std::size_t>(ranks), 0);
  SlotPlaces some{.common = none, .offered = none};
  for (int from = 0; from < ranks; ++from)
    for (int to = 0; to < ranks; ++to) {
      if ((from + to) % 2 == 0) continue;
      some.offered[static_cast<std::size_t>(from)] |= mask_of(to);
      if ((from + to) % 4 == 1) some.common[static_cast<std::size_t>(from)] |= mask_of(to);
    }
  return {{}, {.common = all, .offered = all}, some};
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
