#pragma once

#include <collectives/types.hpp>
#include <cstddef>
#include <cstdint>

#include "kernels/control.hpp"

namespace collectives::kernels {

/// What every kernel is told of a call.
struct CallArgs {
  std::uint32_t tile_packs;  ///< of a slot: what a block moves of the longest chunk at one time
  std::uint32_t tiles;       ///< of the chunk with the most, a block
  std::uint32_t stages;
  std::uint32_t fingerprint;
  std::uint32_t epoch_share;  ///< what each block but the first adds to the rank's count of calls
  std::uint8_t rank, ranks;
  std::uint8_t wide;          ///< direct kernels only: both halves of the slots, behind a barrier
  std::uint16_t divisor;      ///< ranks for an average, else 1
  ReduceOp op;
  std::uint64_t timeout_ns;
  FaultRecord* fault;
  Layout layout;
};

/// The packs of one chunk that one block moves at one time.
struct Tile {
  std::uint64_t first;  ///< in the message, or in the region
  std::uint32_t packs;
};

}  // namespace collectives::kernels
