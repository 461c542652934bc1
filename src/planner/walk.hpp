#pragma once

#include <span>

#include "planner/limits.hpp"
#include "planner/program.hpp"

namespace collectives {

/// What programs ask of blocks that do one step after the other (kernels/program_body.hpp): writing host memory, reading it and storing over links do not
/// overlap, whatever the fabric could carry at once. A step takes as long as its busiest limit alone. What comes over a link lies in the
/// rank's own memory by then, but what it reads out of host memory or a peer's is loaded while the step lasts. Whether steps that use different
/// links overlap has not been measured: they are taken to.
struct Walk {
  double us_per_byte = 0;        ///< of the message: the steps of the rank that they take longest
  double host_us_per_byte = 0;   ///< of these, those that write or read host memory
  double first_us_per_byte = 0;  ///< of a message that is one tile, until the last rank has done its last step
  int steps = 0;                 ///< of the rank that has most
};

/// `limits` are the fabric's, whether or not values are offered.
Walk walk_of(std::span<const Program> programs, const Fabric& fabric, const Limits& limits);

}  // namespace collectives
