#include "planner/shape.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/require.hpp"

namespace collectives {
namespace {

constexpr std::size_t pack_bytes = 16;

std::size_t divide_up(std::size_t a, std::size_t b) { return (a + b - 1) / b; }

/// Can this type do with a word that no value uses?
bool fits_sentinel(DataType type) { return type == DataType::float32 || type == DataType::float16 || type == DataType::bfloat16; }

Wire wire_for(const PlannerOptions& options, const Fabric& fabric, DataType type) {
  if (!fits_sentinel(type)) return Wire::flagged;
  if (options.wire) return *options.wire;
  // A host thread reads plain memory several times faster than memory it must poll word by word.
  return fabric.backend == Backend::host ? Wire::flagged : Wire::sentinel;
}

int block_limit(const Fabric& fabric, const PlannerOptions& options) {
  if (fabric.backend == Backend::host) return 1;
  // All blocks of all ranks on a device must run at once, and leave room for the caller's kernels.
  const int share = static_cast<int>(std::max(fabric.multiprocessors, 1u) / std::max(fabric.ranks_per_device, 1u));
  const int limit = std::clamp(share, 1, 128);
  return options.max_blocks > 0 ? std::min(limit, options.max_blocks) : limit;
}

/// As many stages as the slots hold, up to what pipelining can use: the whole message if that fits, so that no credit is
/// needed. Halves the tile until two fit.
void fit_stages(Plan& plan, std::size_t chunk_packs, int lanes, std::size_t slot_bytes) {
  constexpr std::size_t deepest = 8;
  for (std::size_t tile_packs = plan.tile_bytes / pack_bytes;; tile_packs = divide_up(tile_packs, 2)) {
    const std::size_t row = static_cast<std::size_t>(lanes) * static_cast<std::size_t>(plan.blocks) * tile_packs * pack_bytes;
    const std::size_t room = slot_bytes / row;
    const std::size_t tiles = std::max<std::size_t>(divide_up(chunk_packs, tile_packs * static_cast<std::size_t>(plan.blocks)), 1);
    plan.tile_bytes = tile_packs * pack_bytes;
    plan.stages = static_cast<int>(std::min(room, tiles <= room ? tiles : deepest));
    if (plan.stages >= 2 || tiles <= room) return;
    require(tile_packs > 1,
            [&] { return fmt::format("the pool is too small: {} lanes of {} blocks need {} bytes of slots, there are {}", lanes, plan.blocks, 2 * row, slot_bytes); },
            ErrorCode::out_of_memory);
  }
}

}  // namespace

void shape_plan(Plan& plan, const Routine& routine, const Fabric& fabric, const PlannerOptions& options, DataType type) {
  const Program& program = routine.programs.front();
  const std::size_t packs = std::max<std::size_t>(divide_up(plan.bytes, pack_bytes), 1);
  const std::size_t chunk_packs = divide_up(packs, static_cast<std::size_t>(program.chunks));
  plan.wire = wire_for(options, fabric, type);
  const int limit = block_limit(fabric, options);
  if (fabric.backend == Backend::host) {
    plan.blocks = plan.threads = 1;
    plan.tile_bytes = std::min<std::size_t>(chunk_packs, 4096) * pack_bytes;  // 64 KB: a tile and its operands stay in a core's cache
  } else {
    // Small messages: one pack a thread and many small blocks, so that every pack is under way at once. Large ones: big
    // blocks, whose threads hide each other's latency.
    plan.threads = chunk_packs <= 8192 ? 128 : chunk_packs <= 32768 ? 256 : 480;
    plan.blocks = static_cast<int>(std::clamp<std::size_t>(divide_up(chunk_packs, static_cast<std::size_t>(plan.threads)), 1, static_cast<std::size_t>(limit)));
    const std::size_t share = divide_up(chunk_packs, static_cast<std::size_t>(plan.blocks));
    plan.tile_bytes = std::min<std::size_t>(share, static_cast<std::size_t>(plan.threads)) * pack_bytes;
  }
  fit_stages(plan, chunk_packs, std::max(program.lanes, 1), options.slot_bytes);
}

}  // namespace collectives
