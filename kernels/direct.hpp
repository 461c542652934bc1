#pragma once

#include "kernels/call.hpp"

// What every rank can do with every other in one hop, or in two, with the rank count known to the compiler: one-shot and two-shot
// all-reduces and reduce-scatters: sums of the types that engines use over the sentinel wire, all others over the escaped one; and whatever
// only moves blocks from rank to rank, over the escaped one too. The general family runs the same schedules for everything else.
namespace collectives::kernels {

inline constexpr int max_direct_ranks = 8;

/// Where a direct call meets its peers.
struct DirectPlaces : CallArgs {
  std::uint32_t lane_packs;              ///< of one lane of slots
  Pack* operands[max_direct_ranks - 1];  ///< [k-1]: the lane of the first half in which peer k gets operands from this rank
  Pack* chunks[max_direct_ranks - 1];    ///< [k-1]: the same for finished chunks, or blocks
  Pack* slots;                           ///< this rank's own lanes of the first half
  Control* own;                          ///< this rank's
  std::uint32_t half_packs;              ///< of one half of the slots
  std::byte* pools[max_direct_ranks];    ///< as this rank addresses them
  bool in_device_memory;                 ///< the pools are
  bool early;                            ///< a call of one tile is launched early, see programmatic.cuh
};

struct DirectArgs : DirectPlaces {
  const void* in;
  void* out;
  std::uint64_t count;  ///< elements
  struct Chunk {
    std::uint32_t first, packs;  ///< in the message, which is at most 2^32 packs
  };
  Chunk chunk[max_direct_ranks];       ///< [k]: of rank + k modulo ranks; one-shot has the whole message as [0]
  std::uint32_t longest_chunk;         ///< packs
  std::uint32_t whole_in, whole_out;   ///< packs that a 16-byte access may read or write: none of a misaligned buffer
  bool plain;                          ///< all packs of both buffers are whole
  bool even;                           ///< all chunks are of one length
  bool gathers;                        ///< two-shot: finished chunks go to everyone; a reduce-scatter's stay
};

/// A reduction over the escaped wire: any type, any operation.
struct ReduceArgs : DirectArgs {  // one-shot has the whole message as every chunk
  DataType type;
  std::uint64_t bytes;    ///< of `count` elements
  bool factor_given;      ///< this rank's input is multiplied by a factor, which is one element:
  const void* factor_at;  ///< there, or if null
  std::uint64_t factor;   ///< these bits
};

/// A call in which each rank has a block for each rank and takes one from each: any of them may be empty.
struct MoveArgs : DirectPlaces {
  struct Part {
    const void* in;  ///< what goes to peer k
    void* out;       ///< where what comes from it belongs
    std::uint64_t in_bytes, out_bytes;
    std::uint32_t whole_in, whole_out;  ///< packs that a 16-byte access may read or write
  };
  Part part[max_direct_ranks];  ///< [k]: of rank + k modulo ranks; [0] is copied
  bool relays;                  ///< a two-shot broadcast: what comes from `root` goes on to the other peers
  std::uint8_t root;            ///< whose own blocks are copied as they are sent
};

/// Has this family a kernel for such a call over the sentinel wire?
constexpr bool has_direct(DataType type, ReduceOp op, int ranks) {
  return op == ReduceOp::sum && ranks >= 2 && ranks <= max_direct_ranks &&
         (type == DataType::float32 || type == DataType::float16 || type == DataType::bfloat16);
}

/// Enqueues one call. `threads` is a multiple of 32 and at most 512: a warp is added that minds the peers.
void launch_one_shot(const DirectArgs& args, DataType type, int blocks, int threads, Stream stream);
void launch_two_shot(const DirectArgs& args, DataType type, int blocks, int threads, Stream stream);

/// Enqueues one call of blocks of `threads` workers, a multiple of 32 and `reduced_threads` at most, each of which has up to `reduced_packs` of a tile
/// (base/direct_shape.hpp).
void launch_reduce(const ReduceArgs& args, int blocks, int threads, Stream stream);

/// Enqueues one call of blocks of `threads` workers, a multiple of 32, in each of which a thread has up to `move_once_packs` of a tile if there is
/// one tile only, and `move_once_threads` at most; else up to `streamed_move_packs`, and `streamed_move_threads` at most (base/direct_shape.hpp).
void launch_move(const MoveArgs& args, int blocks, int threads, Stream stream);

/// Loads the kernels for this many ranks on the current device, as for the general family.
void preload_direct(int ranks);
void preload_reduce(int ranks);
void preload_move(int ranks);

/// Do the kernels for the current device know how to begin early? Those for GPUs before compute capability 9.0 do not.
bool can_begin_early();

}  // namespace collectives::kernels
