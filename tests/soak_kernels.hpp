#pragma once

#include <collectives/types.hpp>
#include <cstddef>
#include <cstdint>

namespace collectives {

/// One rank's side of a soak that never leaves the device: the call's number is in device memory, so that a replayed graph
/// has other data every time.
struct SoakSide {
  struct Counters {
    unsigned long long wrong;  ///< elements found wrong
    std::uint32_t calls;       ///< that have been checked
    std::uint32_t blocks;      ///< that have finished the check under way
  };
  float* in;
  float* out;
  Counters* counters;  ///< in device memory, zero at first
  int rank, ranks;
};

/// Of the message, or of every rank's block.
struct SoakCall {
  Collective collective;  ///< all_reduce, reduce_scatter, all_gather or broadcast
  std::size_t count;
  int root = 0;
  DataType type = DataType::float32;  ///< or int32, in the same memory

  std::size_t in_count(int ranks) const { return collective == Collective::reduce_scatter ? count * static_cast<std::size_t>(ranks) : count; }
  std::size_t out_count(int ranks) const { return collective == Collective::all_gather ? count * static_cast<std::size_t>(ranks) : count; }
};

/// Fills what the call reads, and what it writes with something else, after a stall of a length that differs per rank and call.
void launch_soak_fill(const SoakSide& side, const SoakCall& what, Stream stream);
/// Checks the result of the call, and counts it.
void launch_soak_check(const SoakSide& side, const SoakCall& what, Stream stream);

}  // namespace collectives
