#pragma once

#include <cstddef>

#include "planner/planner.hpp"

namespace collectives {

/// How a routine is laid over threads and slots for one message: fills wire, blocks, threads, tile_bytes and stages of `plan`
/// from its `bytes` and `choice`. lanes * blocks * stages * tile_bytes never exceeds options.slot_bytes.
/// Throws Error(out_of_memory) that says what the smallest layout needs.
void shape_plan(Plan& plan, const Routine& routine, const Fabric& fabric, const PlannerOptions& options, DataType type);

}  // namespace collectives
