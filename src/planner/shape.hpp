#pragma once

#include <cstddef>

#include "planner/planner.hpp"

namespace collectives {

/// The part of a call that decides which kernel takes it.
struct Operation {
  DataType type;
  ReduceOp op;
  bool general = false;  ///< only the general kernels can
};

/// How a routine is laid over threads and slots for one message: fills everything of `plan` but its choice, bytes and time.
/// lanes * blocks * stages * tile_bytes never exceeds the half of its wire's slots, or both for a wide plan.
/// Throws Error(out_of_memory) that says what the smallest layout needs.
void shape_plan(Plan& plan, const Routine& routine, const Fabric& fabric, const PlannerOptions& options, Operation operation);

}  // namespace collectives
