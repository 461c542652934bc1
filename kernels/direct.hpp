#pragma once

#include "kernels/call.hpp"

// One-shot and two-shot push over the sentinel wire with the rank count known to the compiler: the fast path of the types
// that engines use. The general family runs the same schedules for everything else.
namespace collectives::kernels {

inline constexpr int max_direct_ranks = 8;

struct DirectArgs : CallArgs {
  std::byte* pools[max_direct_ranks];  ///< as this rank addresses them
};

/// Has this family a kernel for such a call?
constexpr bool has_direct(DataType type, ReduceOp op, int ranks) {
  return op == ReduceOp::sum && ranks <= max_direct_ranks &&
         (type == DataType::float32 || type == DataType::float16 || type == DataType::bfloat16);
}

/// Enqueues one call. `threads` is a multiple of 32 and at most 480: a warp is added that minds the peers.
void launch_one_shot(const DirectArgs& args, DataType type, int blocks, int threads, Stream stream);
void launch_two_shot(const DirectArgs& args, DataType type, int blocks, int threads, Stream stream);

/// Loads the kernels for this many ranks on the current device, as for the general family.
void preload_direct(int ranks);

}  // namespace collectives::kernels
