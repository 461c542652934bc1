#pragma once

#include <cstddef>
#include <optional>

#include "planner/planner.hpp"

namespace collectives {

/// How a routine is laid over threads and slots for one message: fills everything of `plan` but its choice, bytes and time.
/// lanes * blocks * stages * slot_bytes_of(plan) never exceeds the half of its wire's slots, or both for a wide plan.
/// Returns the tiles of the longest chunk, or nothing if the smallest layout does not fit the slots.
std::optional<std::size_t> shape_plan(Plan& plan, const Routine& routine, const Fabric& fabric, const PlannerOptions& options, Operation operation);

/// Of the slot in which a block leaves a tile.
std::size_t slot_bytes_of(const Plan& plan);

/// The most thread blocks that a rank's call may have: all blocks of all ranks on a device run at once.
int block_limit(const Fabric& fabric, const PlannerOptions& options);

}  // namespace collectives
