#pragma once

#include "planner/schedule.hpp"
#include "topology/fabric.hpp"

namespace collectives {

/// What a schedule takes on a fabric: fixed_us + us_per_byte * the bytes of the message.
struct Cost {
  double fixed_us = 0;
  double us_per_byte = 0;
  double sent_share = 0;  ///< the most that any rank sends, in messages
};

/// The schedule must be for as many ranks as the fabric has, or Error(invalid_argument).
Cost cost_of(const Schedule& schedule, const Fabric& fabric);

}  // namespace collectives
