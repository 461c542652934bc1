#pragma once

#include <cstddef>
#include <optional>

#include "planner/planner.hpp"

namespace collectives {

/// Of copies: slots of a lane that are written, read and free in turn.
inline constexpr std::size_t copy_buffers = 3;
/// The same through host memory.
inline constexpr std::size_t staged_copy_buffers = 2;

/// Can this type do with a word that no value uses?
bool fits_sentinel(DataType type);

/// Has every rank copy engines of its own? Ranks that share a GPU share its queues of copies, where one rank's would wait for
/// another's behind it.
bool has_copy_engines(const Fabric& fabric);

/// How a routine is laid over threads and slots for one message: fills everything of `plan` but its choice, bytes and time.
/// lanes * blocks * stages * slot_bytes_of(plan) never exceeds the half of its wire's slots, or both for a wide plan. For copy engines a tile is
/// the piece of a chunk that one copy moves, and (ranks - 1) * stages * tile_bytes never exceeds their slots, nor
/// ranks * stages * tile_bytes where they copy through host memory.
/// Returns the tiles of the longest chunk, or nothing if the smallest layout does not fit the slots.
std::optional<std::size_t> shape_plan(Plan& plan, const Routine& routine, const Fabric& fabric, const PlannerOptions& options, Operation operation);

/// How many crews a program may have, one for each of its rounds: one in all where not every byte passes host memory, or where crews are
/// more than the verifier proves or a kernel serves.
int crews_of(const std::vector<Program>& programs, const Fabric& fabric);

/// Of the slot in which a block leaves a tile.
std::size_t slot_bytes_of(const Plan& plan);

/// The most thread blocks that a rank's call may have: all blocks of all ranks on a device run at once.
int block_limit(const Fabric& fabric, const PlannerOptions& options);

}  // namespace collectives
