#pragma once

#include <collectives/types.hpp>
#include <cstddef>
#include <cstdint>

#include "kernels/control.hpp"

namespace collectives::kernels {

/// What every kernel is told of a call.
struct CallArgs {
  const void* in;
  void* out;
  std::uint64_t count;        ///< elements
  std::uint64_t chunk_packs;  ///< packs of a chunk: the first `long_chunks` chunks have one more
  std::uint32_t long_chunks;
  std::uint32_t tile_packs;
  std::uint32_t tiles;        ///< of the longest chunk, a block
  std::uint32_t stages;
  std::uint32_t fingerprint;
  std::uint8_t rank, ranks;
  std::uint8_t in_aligned, out_aligned;
  std::uint8_t wide;          ///< direct kernels only: both halves of the slots, behind a barrier
  std::uint16_t divisor;      ///< ranks for an average, else 1
  ReduceOp op;
  std::uint64_t timeout_ns;
  FaultRecord* fault;
  Layout layout;
};

/// The packs of one chunk that one block moves at one time.
struct Tile {
  std::uint64_t first;  ///< in the message
  std::uint32_t packs;
};

/// Blocks share out a chunk tile by tile; the last tiles may be short or empty.
COLLECTIVES_HOST_DEVICE Tile tile_of(const CallArgs& call, int chunk, std::uint32_t t, int block, int blocks) {
  const std::uint64_t c = static_cast<std::uint64_t>(chunk);
  const std::uint64_t extra = c < call.long_chunks ? c : call.long_chunks;
  const std::uint64_t length = call.chunk_packs + (c < call.long_chunks ? 1u : 0u);
  const std::uint64_t offset = (static_cast<std::uint64_t>(t) * blocks + block) * call.tile_packs;
  const std::uint64_t left = offset < length ? length - offset : 0;
  return {c * call.chunk_packs + extra + offset, static_cast<std::uint32_t>(left < call.tile_packs ? left : call.tile_packs)};
}

}  // namespace collectives::kernels
