#pragma once

#include "kernels/call.hpp"

// One-shot and two-shot push over the sentinel wire with the rank count known to the compiler: the fast path of the types
// that engines use. The general family runs the same schedules for everything else.
namespace collectives::kernels {

inline constexpr int max_direct_ranks = 8;

struct DirectArgs : CallArgs {
  const void* in;
  void* out;
  std::uint64_t count;  ///< elements
  struct Chunk {
    std::uint32_t first, packs;  ///< in the message, which is at most 2^32 packs
  };
  Chunk chunk[max_direct_ranks];       ///< [k]: of rank + k modulo ranks; one-shot has the whole message as [0]
  std::uint32_t longest_chunk;         ///< packs
  std::uint32_t lane_packs;            ///< of one lane of slots
  std::uint32_t whole_in, whole_out;   ///< packs that a 16-byte access may read or write: none of a misaligned buffer
  bool plain;                          ///< all packs of both buffers are whole, and all chunks of one length
  Pack* operands[max_direct_ranks - 1];  ///< [k-1]: the lane of the first half in which peer k gets operands from this rank
  Pack* chunks[max_direct_ranks - 1];    ///< [k-1]: and finished chunks
  Pack* slots;                           ///< this rank's own lanes
  std::byte* pools[max_direct_ranks];  ///< as this rank addresses them
  bool in_device_memory;               ///< the pools are
};

/// Has this family a kernel for such a call?
constexpr bool has_direct(DataType type, ReduceOp op, int ranks) {
  return op == ReduceOp::sum && ranks >= 2 && ranks <= max_direct_ranks &&
         (type == DataType::float32 || type == DataType::float16 || type == DataType::bfloat16);
}

/// Enqueues one call. `threads` is a multiple of 32 and at most 512: a warp is added that minds the peers.
void launch_one_shot(const DirectArgs& args, DataType type, int blocks, int threads, Stream stream);
void launch_two_shot(const DirectArgs& args, DataType type, int blocks, int threads, Stream stream);

/// Loads the kernels for this many ranks on the current device, as for the general family.
void preload_direct(int ranks);

}  // namespace collectives::kernels
