#pragma once

#include <collectives/types.hpp>
#include <cstddef>
#include <cstdint>

#include "kernels/call.hpp"

// The general kernel family: it runs any lowered schedule (planner/program.hpp says what a step means).
namespace collectives::kernels {

inline constexpr int max_steps = 40;
inline constexpr int max_edges = 80;
inline constexpr int max_regions = 32;

struct EdgeArgs {
  std::uint8_t peer, lane, credit, row;
  bool common;   ///< the slots are in common memory, else in a pool
  bool offered;  ///< the slots are the sender's, and the receiver reads them there: over flags only, which are in common memory
  bool repeats;  ///< of a step's sends: an earlier one puts the result into the very same slots
};

/// A chunk of a call as one rank sees it: a place in its input, one in its output, or only a length.
struct Region {
  const void* in;
  void* out;
  std::uint64_t count;  ///< elements
  std::uint32_t tile_packs;  ///< what a block moves of it at one time: every region has as many tiles
  std::uint8_t in_aligned, out_aligned;
};

struct StepArgs {
  std::uint8_t region;
  std::uint8_t own;       ///< 0 none, 1 input, 2 output
  std::uint8_t store, complete;
  std::uint8_t delay;
  std::uint8_t first_edge;  ///< receives, ascending by peer, then sends
  std::uint8_t receives, sends;
};

/// One call of one rank: passed to its kernel by value, so that a captured graph keeps it.
struct ProgramArgs : CallArgs {
  std::byte* pools[max_ranks];     ///< as this rank addresses them; null for those it neither writes nor reads
  std::byte* common[max_ranks];    ///< the same in memory that all reach, for control words and for what `pools` cannot do
  std::uint8_t steps, max_delay;
  std::uint8_t crews;  ///< more than one: each round has blocks of its own, over flags
  bool carried;  ///< the caller's memory holds floats, and the type is what they travel as
  bool factor_given;      ///< this rank's input is multiplied by a factor, which is one element:
  const void* factor_at;  ///< there, or if null
  std::uint64_t factor;   ///< these bits
  StepArgs step[max_steps];
  Region region[max_regions];
  EdgeArgs edge[max_edges];
};

/// Enqueues one call. Type and operation are valid; the sentinel wire is for float32, float16 and bfloat16, and floats are
/// carried as one of the latter two.
void launch_sentinel(const ProgramArgs& args, DataType type, int blocks, int threads, Stream stream);
void launch_flagged(const ProgramArgs& args, DataType type, int blocks, int threads, Stream stream);
/// Over flags; `blocks` are of each crew.
void launch_crews(const ProgramArgs& args, DataType type, int blocks, int threads, Stream stream);

/// Loads every kernel of the family on the current device. A first launch that loads code would wait for the device to be
/// idle, and so for a peer's kernel that waits for this very launch.
void preload_sentinel();
void preload_flagged();
void preload_crews();

}  // namespace collectives::kernels
