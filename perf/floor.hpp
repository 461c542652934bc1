#pragma once

#include <collectives/types.hpp>
#include <cstddef>
#include <cstdint>

namespace perf {

inline constexpr int max_floor_ranks = 8;

/// The least that an all-reduce between GPUs does: every pack is stored where its reader polls it, once or, for two-shot, a second time
/// behind the first. Nothing is loaded, added, emptied or announced; nobody waits for room.
struct FloorArgs {
  std::byte* theirs[max_floor_ranks - 1];  ///< where this rank's packs arrive at each peer
  std::byte* mine[max_floor_ranks - 1];    ///< where each peer's arrive here
  int peers = 0;
  std::size_t packs = 0;       ///< of 16 bytes, to each peer and in each phase
  std::size_t ring_packs = 0;  ///< a power of two: pack p lies in place p modulo this, so that the places stay in the cache
  bool two_phases = false;     ///< the second phase's places lie behind the first's
  std::uint32_t tag = 0;       ///< what is stored; not 0, and not that of the call before or behind
  std::uint32_t max_polls = 0; ///< of a wait; then the kernel gives up
  std::uint32_t* gave_up = nullptr;  ///< on this GPU
};

/// On `stream` of the current device; all blocks must be resident at once. Throws Error(device).
void launch_floor(const FloorArgs& args, int blocks, int threads, collectives::Stream stream);

/// Lets the kernels of `device` reach `peer`'s memory. Throws Error(device) if they cannot.
void reach_peer(int device, int peer);

}  // namespace perf
