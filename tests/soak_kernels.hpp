#pragma once

#include <collectives/types.hpp>
#include <cstddef>
#include <cstdint>

namespace collectives {

/// One rank's side of a soak that never leaves the device: the call's number is in device memory, so that a replayed graph
/// has other data every time.
struct SoakSide {
  float* in;
  float* out;
  std::uint32_t* call;       ///< how many calls have been checked
  unsigned long long* wrong; ///< elements found wrong
  int rank, ranks;
};

/// Fills `count` elements for the call, after a stall of a length that differs per rank and call.
void launch_soak_fill(const SoakSide& side, std::size_t count, Stream stream);
/// Checks the result of the call and counts it.
void launch_soak_check(const SoakSide& side, std::size_t count, Stream stream);

}  // namespace collectives
