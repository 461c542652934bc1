#pragma once

#include "kernels/call.hpp"

// What a call that copy engines carry needs of the multiprocessors: small kernels that begin it, that say which copies are whole
// and wait for those of the peers, and that combine what has come. src/exec/copies.hpp says how they fit together.
namespace collectives::kernels {

/// Groups of copies that have slots of their own: one is under way, one is being read, one was read.
inline constexpr int copy_buffers = 3;

struct CopyCallArgs : CallArgs {
  std::byte* pools[max_ranks];  ///< where ranks meet, as this rank addresses it: in their pools, or in common memory
  std::byte* own;               ///< this rank's pool, where it counts its calls
};

/// Tell these peers, a bit each, that a group of copies is whole, then wait until theirs is.
struct CopyMeeting {
  std::uint32_t tell;
  std::uint32_t await;
  std::uint32_t group;
};

/// The operands of a piece of this rank's chunk.
struct CopySumArgs {
  const void* operand[max_ranks];  ///< by rank: this rank's is a piece of its input, the others lie in slots
  void* out;
  std::uint64_t count;  ///< elements
  std::uint64_t whole;  ///< packs that 16-byte accesses may read of the input and write of the output: none of misaligned buffers
  bool in_aligned, out_aligned;
  std::uint8_t rank, ranks;
  std::uint16_t divisor;  ///< ranks for an average, else 1
  ReduceOp op;
};

/// Enqueues the beginning of a call: announces it, waits until every peer has announced the same, and moves the epoch on.
void launch_copy_open(const CopyCallArgs& args, Stream stream);
void launch_copy_meet(const CopyCallArgs& args, const CopyMeeting& meeting, Stream stream);
void launch_copy_sum(const CopySumArgs& args, DataType type, int blocks, int threads, Stream stream);

/// Loads the kernels on the current device, as for the general family.
void preload_copy();

}  // namespace collectives::kernels
