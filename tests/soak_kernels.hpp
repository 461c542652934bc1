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

/// Fills `count` elements for the call, after a stall of a length that differs per rank and call.
void launch_soak_fill(const SoakSide& side, std::size_t count, Stream stream);
/// Checks the result of the call, which was of so many elements, and counts it.
void launch_soak_check(const SoakSide& side, std::size_t count, Stream stream);

}  // namespace collectives
