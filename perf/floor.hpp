#pragma once

#include <collectives/types.hpp>
#include <cstddef>
#include <cstdint>

namespace perf {

inline constexpr int max_floor_ranks = 8;

/// The least that an all-reduce between GPUs does: every pack is stored where its reader polls it, once or, for two-shot, a second time
/// behind the first. Nothing is added, emptied or announced; nobody waits for room. With buffers, packs are loaded before they are sent, and
/// what has come is stored; else they are made up.
struct FloorArgs {
  std::byte* theirs[max_floor_ranks - 1];  ///< where this rank's packs arrive at each peer
  std::byte* mine[max_floor_ranks - 1];    ///< where each peer's arrive here
  int peers = 0;
  std::size_t packs = 0;       ///< of 16 bytes, to each peer and in each phase
  std::size_t ring_packs = 0;  ///< a power of two: pack p lies in place p modulo this, so that the places stay in the cache
  bool two_phases = false;     ///< the second phase's places lie behind the first's
  const std::byte* in = nullptr;  ///< a pack for each peer and for this rank, `packs` of each one behind the other; with one phase one for all
  std::byte* out = nullptr;       ///< the same; both or none
  std::uint32_t tag = 0;       ///< what is stored, or the last word of it; not 0, and not that of the call before or behind
  std::uint32_t max_polls = 0; ///< of a wait; then the kernel gives up
  std::uint32_t* gave_up = nullptr;  ///< on this GPU
};

/// On `stream` of the current device; all blocks must be resident at once. Throws Error(device).
void launch_floor(const FloorArgs& args, int blocks, int threads, collectives::Stream stream);

/// Lets the kernels of `device` reach `peer`'s memory. Throws Error(device) if they cannot.
void reach_peer(int device, int peer);

}  // namespace perf
