#include "planner/shape.hpp"

#include <algorithm>
#include <collectives/communicator.hpp>

#include "base/direct_shape.hpp"
#include "base/integers.hpp"
#include "base/program_room.hpp"

namespace collectives {
namespace {

constexpr std::size_t pack_bytes = 16;

constexpr int most_blocks = 132;  // what the flags in a pool have room for, and more than any GPU so far gains from

// Of a GPU that the machine's description says nothing of: any that has peers to talk to has these.
constexpr std::uint32_t least_multiprocessors = 32;

Wire wire_for(const PlannerOptions& options, const Fabric& fabric, DataType type, std::size_t bytes) {
  if (!fits_sentinel(type)) return Wire::flagged;
  if (options.wire) return *options.wire;
  // Where every slot is in host memory, looking for what has not come costs the bus that it comes over: four H200 take 7.5 ms for 64 MB
  // over sentinels and 3.4 over flags, 78 and 70 us for 1 MB, but 25 and 44 us for 256 KB.
  constexpr std::size_t worth_a_flag = std::size_t{1} << 20;
  if (bytes >= worth_a_flag && fabric.meets_on_host()) return Wire::flagged;
  // A host thread reads plain memory several times faster than memory it must poll word by word.
  return fabric.backend == Backend::host ? Wire::flagged : Wire::sentinel;
}

std::size_t tiles_of(const Plan& plan, std::size_t chunk_packs) {
  return std::max<std::size_t>(divide_up(chunk_packs, plan.tile_bytes / pack_bytes * static_cast<std::size_t>(plan.blocks)), 1);
}

std::size_t row_bytes(const Plan& plan, int lanes) {
  return static_cast<std::size_t>(lanes) * static_cast<std::size_t>(plan.blocks) * slot_bytes_of(plan);
}

/// As many stages as the slots hold, up to `deepest` or as many as there are tiles. Halves the tile until `fewest` fit; false if
/// they never do.
bool fit_stages(Plan& plan, std::size_t chunk_packs, int lanes, std::size_t slot_bytes, std::size_t fewest, std::size_t deepest) {
  for (;; plan.tile_bytes = divide_up(plan.tile_bytes / pack_bytes, 2) * pack_bytes) {
    const std::size_t room = slot_bytes / row_bytes(plan, lanes);
    const std::size_t tiles = tiles_of(plan, chunk_packs);
    if (tiles <= room || room >= fewest) {
      plan.stages = static_cast<int>(std::min({tiles, room, deepest}));
      return true;
    }
    if (plan.tile_bytes == pack_bytes) return false;
  }
}

/// No larger than lets two stages of whole warps fit the slots, unless all tiles fit anyway.
void fit_two_stages(Plan& plan, std::size_t chunk_packs, int lanes, std::size_t slot_bytes) {
  constexpr std::size_t warp_bytes = 32 * pack_bytes;
  const std::size_t largest = slot_bytes * plan.tile_bytes / row_bytes(plan, lanes) / 2 / warp_bytes * warp_bytes;
  if (tiles_of(plan, chunk_packs) * row_bytes(plan, lanes) > slot_bytes && largest > 0) plan.tile_bytes = std::min(plan.tile_bytes, largest);
}

/// What direct kernels reduce over the sentinel wire. They reduce everything over the escaped one.
bool is_plain_sum(Operation operation) { return fits_sentinel(operation.type) && operation.op == ReduceOp::sum && !operation.scaled; }

/// The wire of a reduction that direct kernels may take: sentinels have slightly faster ones, but not for everything.
Wire direct_wire(const PlannerOptions& options, Operation operation) {
  if (options.wire && (*options.wire == Wire::flagged || fits_sentinel(operation.type))) return *options.wire;
  return is_plain_sum(operation) ? Wire::sentinel : Wire::escaped;
}

bool has_direct_kernel(const Plan& plan, const Fabric& fabric, const PlannerOptions& options, Operation operation) {
  if (fabric.backend != Backend::cuda || !fabric.fully_connected() || fabric.ranks < 2 || fabric.ranks > 8) return false;
  const Wire wire = direct_wire(options, operation);
  const bool reduces = wire == Wire::escaped || (wire == Wire::sentinel && is_plain_sum(operation));
  switch (operation.form) {
    case DirectForm::none: return false;
    case DirectForm::all_reduce: return reduces && is_direct(plan.choice.algorithm);
    case DirectForm::reduce_scatter: return reduces && plan.choice.algorithm == Algorithm::one_shot;
    case DirectForm::move: return plan.choice.algorithm == Algorithm::one_shot;
    case DirectForm::broadcast: return is_direct(plan.choice.algorithm);
  }
  return false;
}

/// `share` packs in as few tiles as `largest` allows, of about equal size. Whole warps: a row that begins amid a line of the
/// cache cost 256 MB on 4 H200 6 % (1269 us against 1199).
std::size_t even_tile(std::size_t share, std::size_t largest) {
  constexpr std::size_t warp = 32;
  const std::size_t tile = divide_up(share, divide_up(share, largest));
  return tile < warp ? tile : divide_up(tile, warp) * warp;
}

/// One pack of a chunk for every thread, in blocks as large as cost nothing: the caller's kernels want the other multiprocessors. What is few stores to
/// peers is one block's: 2 KB between two H200 take 2.20 us in one and 2.32 in two, 4 KB 2.29 and 2.35, 8 KB 2.46 and 2.39.
void shape_once(Plan& plan, std::size_t chunk_packs, int lanes, int limit) {
  constexpr std::size_t least_threads = 64, few_blocks = 16, many_threads = 256, few_stores = 256;
  std::size_t threads = least_threads;
  const bool one_block = chunk_packs * static_cast<std::size_t>(lanes) <= few_stores;
  while (one_block ? threads < chunk_packs : threads < many_threads && divide_up(chunk_packs, threads) > few_blocks) threads *= 2;
  while (divide_up(chunk_packs, threads) > static_cast<std::size_t>(limit)) threads *= 2;
  plan.threads = static_cast<int>(threads);
  plan.blocks = static_cast<int>(divide_up(chunk_packs, threads));
  plan.tile_bytes = threads * pack_bytes;
  plan.stages = 1;
}

/// Two packs or more for every thread: each multiprocessor has a block, since so much waits for the links.
void shape_packs(Plan& plan, std::size_t chunk_packs, std::size_t packs, int limit) {
  constexpr std::size_t warp = 32;
  const std::size_t threads = divide_up(divide_up(chunk_packs, static_cast<std::size_t>(limit) * packs), warp) * warp;
  plan.threads = static_cast<int>(threads);
  plan.blocks = static_cast<int>(divide_up(chunk_packs, threads * packs));
  plan.tile_bytes = threads * packs * pack_bytes;
  plan.stages = 1;
}

/// All packs at once in blocks of a pack a thread where the slots hold that, or of a few; else a block on each multiprocessor with as many packs
/// a thread as its registers hold. Its slots are the sentinels'.
bool shape_move(Plan& plan, std::size_t chunk_packs, int ranks, int limit, std::size_t slot_bytes) {
  constexpr std::size_t fewest = 4;
  plan.direct = true;
  plan.wire = Wire::escaped;
  const int lanes = ranks - 1;
  // What takes two hops passes them tile by tile.
  const std::size_t most_threads = static_cast<std::size_t>(limit) * move_once_threads;
  for (std::size_t packs = 1; packs <= static_cast<std::size_t>(move_once_packs(ranks)) && plan.choice.algorithm == Algorithm::one_shot; packs *= 2) {
    if (chunk_packs > packs * most_threads) continue;
    packs == 1 ? shape_once(plan, chunk_packs, lanes, limit) : shape_packs(plan, chunk_packs, packs, limit);
    if (row_bytes(plan, lanes) <= slot_bytes) return true;
  }
  const auto threads = static_cast<std::size_t>(streamed_move_threads(ranks)), largest = threads * static_cast<std::size_t>(streamed_move_packs(ranks));
  plan.threads = static_cast<int>(threads);
  // The words of a row stay as long as its threads are many, however short its tile: small slots hold the rows of fewer blocks.
  plan.tile_bytes = threads * pack_bytes;
  const std::size_t most = std::clamp<std::size_t>(2 * slot_bytes / (fewest * static_cast<std::size_t>(lanes) * slot_bytes_of(plan)), 1, static_cast<std::size_t>(limit));
  plan.blocks = static_cast<int>(std::clamp<std::size_t>(divide_up(chunk_packs, threads), 1, most));
  plan.tile_bytes = even_tile(divide_up(chunk_packs, static_cast<std::size_t>(plan.blocks)), largest) * pack_bytes;
  const std::size_t tiles = tiles_of(plan, chunk_packs);
  plan.wide = tiles > fewest || tiles > slot_bytes / row_bytes(plan, lanes);
  return fit_stages(plan, chunk_packs, lanes, plan.wide ? 2 * slot_bytes : slot_bytes, fewest, fewest);
}

/// Slots that hold all tiles: of two packs a thread between two ranks, where 16 MB take two H200 51.5 us, with one pack a thread 53.5, with four 51.9, and with 256
/// threads of four 53.2; of one between three or four, where 8 and 16 MB take four H200 39.7 and 79.2 us, with two 41.3 and 80.2, with four 43.2 and 83.3. False if
/// they do not fit. Two ranks send nothing wide so: what their halves do not hold is two-shot's.
bool shape_roomy(Plan& plan, std::size_t chunk_packs, int lanes, int ranks, int limit, std::size_t slot_bytes) {
  constexpr std::size_t most_tiles = 8;
  Plan roomy = plan;
  roomy.roomy = true;
  roomy.threads = roomy_threads;
  roomy.blocks = limit;
  roomy.tile_bytes = even_tile(divide_up(chunk_packs, static_cast<std::size_t>(limit)), std::size_t{roomy_threads} * (ranks == 2 ? pair_packs : 1)) * pack_bytes;
  const std::size_t tiles = tiles_of(roomy, chunk_packs), room = slot_bytes / row_bytes(roomy, lanes);
  roomy.wide = ranks > 2 && tiles > room;
  if ((ranks > 2 && tiles > most_tiles) || tiles > (roomy.wide ? 2 * slot_bytes / row_bytes(roomy, lanes) : room)) return false;
  roomy.stages = static_cast<int>(tiles);
  plan = roomy;
  return true;
}

/// Grids as measured on 2, 3 and 4 H200 (perf/results). Small messages want every pack under way at once, on as many
/// multiprocessors as there are; large ones one block on each, and tiles so large that an iteration's 2 us of latency, which
/// nothing hides, are little beside its transfers. More than four tiles without credits only spread over more of the cache.
bool shape_direct(Plan& plan, std::size_t chunk_packs, int lanes, int ranks, bool scatters, int limit, std::size_t slot_bytes) {
  constexpr std::size_t most_threads_once = 512, large_tile = 960, medium_tile = 512, unhurried_tiles = 4;
  plan.direct = true;
  const std::size_t once = static_cast<std::size_t>(limit) * most_threads_once;
  if (chunk_packs <= once && static_cast<std::size_t>(lanes) * once * pack_bytes <= slot_bytes) {
    shape_once(plan, chunk_packs, lanes, limit);
    return true;
  }
  if ((ranks == 2 ? lanes == 1 : scatters && has_phased(ranks)) && shape_roomy(plan, chunk_packs, lanes, ranks, limit, slot_bytes)) return true;
  const std::size_t threads = chunk_packs <= 64 * 64 ? 64 : chunk_packs <= 128 * 128 ? 128 : 256;
  plan.threads = static_cast<int>(threads);
  plan.blocks = static_cast<int>(std::clamp<std::size_t>(divide_up(chunk_packs, threads), 1, static_cast<std::size_t>(limit)));
  const std::size_t share = divide_up(chunk_packs, static_cast<std::size_t>(plan.blocks));
  plan.tile_bytes = even_tile(share, large_tile) * pack_bytes;
  const std::size_t tiles = tiles_of(plan, chunk_packs);
  plan.wide = tiles > unhurried_tiles || tiles > slot_bytes / row_bytes(plan, lanes);
  if (plan.wide && 2 * slot_bytes / row_bytes(plan, lanes) < 4) plan.tile_bytes = even_tile(share, medium_tile) * pack_bytes;
  if (plan.tile_bytes > medium_tile * pack_bytes) plan.threads = 480;
  return fit_stages(plan, chunk_packs, lanes, plan.wide ? 2 * slot_bytes : slot_bytes, 4, 4);
}

/// The same over the escaped wire, whose rows also hold a word for each thread: what is one tile in blocks of a pack a thread, or of the few that a thread
/// has; else a block on each multiprocessor, of as many threads as have room for four tiles.
bool shape_escaped(Plan& plan, std::size_t chunk_packs, int lanes, int ranks, int limit, std::size_t slot_bytes) {
  constexpr std::size_t warp = 32, most_threads_once = 256, fewest = 4;
  const auto packs = static_cast<std::size_t>(reduced_packs(ranks)), most_threads = static_cast<std::size_t>(reduced_threads(ranks));
  plan.direct = true;
  plan.wire = Wire::escaped;
  if (chunk_packs <= static_cast<std::size_t>(limit) * most_threads_once) {
    shape_once(plan, chunk_packs, lanes, limit);
    if (row_bytes(plan, lanes) <= slot_bytes) return true;
  }
  const auto row_of = [&](std::size_t threads) {
    plan.threads = static_cast<int>(threads);
    plan.tile_bytes = threads * packs * pack_bytes;
    return static_cast<std::size_t>(lanes) * slot_bytes_of(plan);
  };
  plan.blocks = static_cast<int>(std::clamp<std::size_t>(2 * slot_bytes / (fewest * row_of(warp)), 1, static_cast<std::size_t>(limit)));
  std::size_t threads = most_threads;
  while (threads > warp && fewest * row_of(threads) * static_cast<std::size_t>(plan.blocks) > 2 * slot_bytes) threads -= warp;
  const std::size_t tile = even_tile(divide_up(chunk_packs, static_cast<std::size_t>(plan.blocks)), threads * packs);
  plan.threads = static_cast<int>(divide_up(divide_up(tile, packs), warp) * warp);
  plan.tile_bytes = tile * pack_bytes;
  const std::size_t tiles = tiles_of(plan, chunk_packs);
  plan.wide = tiles > fewest || tiles > slot_bytes / row_bytes(plan, lanes);
  return fit_stages(plan, chunk_packs, lanes, plan.wide ? 2 * slot_bytes : slot_bytes, fewest, fewest);
}

/// No more blocks than keep a bus busy, since each that waits polls over it; tiles of 16 KB, as each is fenced. Two stages: what lies in all slots together stays in
/// the CPUs' cache, and host memory itself is slower than the slots of four GPUs.
/// 64 MB on four H200 take 2461 us with 32 blocks a crew, 2482 with 24, 2614 with 44 and 2650 with 16, 16 MB 698, 681, 721 and 720; tiles of 8 KB take 2709 and 739, of
/// 32 KB 2427 and 691. On three 64 MB take 2285 with 32, 2209 with 44 and 2684 with 16; with 16 and six stages 2725.
bool shape_crews(Plan& plan, const Program& program, std::size_t chunk_packs, int limit, std::size_t slot_bytes) {
  constexpr std::size_t largest_tile = 1024, usual_stages = 2;
  constexpr int most_blocks_of_crew = 32;
  plan.threads = 512;
  plan.blocks = std::min(limit / plan.crews, most_blocks_of_crew);
  plan.tile_bytes = even_tile(divide_up(chunk_packs, static_cast<std::size_t>(plan.blocks)), largest_tile) * pack_bytes;
  const auto stages = std::max(static_cast<std::size_t>(program.min_stages), usual_stages);
  return fit_stages(plan, chunk_packs, program.rows, slot_bytes, stages, stages);
}

/// Where every byte passes host memory, a crew of blocks for each round lets some write while others read, which pays from a few tiles a block
/// on: four H200 take 698 us for 16 MB in crews and 868 without, 230 and 212 for 4 MB. Between two, crews take 1943 us for 64 MB at best and
/// blocks that run all rounds 1869.
int crews_for(const Plan& plan, const std::vector<Program>& programs, const Fabric& fabric, int limit) {
  constexpr std::size_t worth_a_crew = std::size_t{8} << 20;
  if (fabric.ranks <= 2 || plan.bytes < worth_a_crew || plan.wire != Wire::flagged) return 1;
  const int crews = crews_of(programs, fabric);
  return crews <= limit ? crews : 1;
}

/// Pieces of a chunk, as long as slots are, and two at least where they are worth a meeting of the ranks: then one is combined while the next is copied.
std::size_t pieces_to_peers(std::size_t chunk_packs, std::size_t slot_packs) {
  constexpr std::size_t least_split_packs = (std::size_t{2} << 20) / pack_bytes;
  return std::max<std::size_t>(divide_up(chunk_packs, slot_packs), chunk_packs >= least_split_packs ? 2 : 1);
}

/// The same through host memory; four where a piece is worth as much, so that both directions of the bus are soon busy.
std::size_t pieces_through_host(std::size_t chunk_packs, std::size_t slot_packs) {
  constexpr std::size_t worth_a_piece = (std::size_t{1} << 20) / pack_bytes, usual = 4;
  return std::max(divide_up(chunk_packs, slot_packs), std::clamp<std::size_t>(chunk_packs / worth_a_piece, 1, usual));
}

/// Blocks that combine as fast as engines copy, by what a block moves on an H200. Four of those take 1.9 ms for 256 MB, where
/// the two-shot kernels take 1.17 (perf/results).
/// False for what other kernels must carry: copy engines move bits as they are, not floats that travel narrower or operands that are
/// scaled; and a call of more copies than a stream's queue holds would wait on the host for ranks that have not been asked to call.
bool shape_copies(Plan& plan, std::size_t chunk_packs, const Fabric& fabric, int limit, std::size_t slot_bytes, Operation operation) {
  constexpr std::size_t line_packs = 32;
  constexpr int few_blocks = 16;
  if (plan.choice.algorithm != Algorithm::copy_two_shot || !has_copy_engines(fabric) || operation.form != DirectForm::all_reduce || operation.scaled) return false;
  const bool through_host = fabric.meets_on_host();
  const auto ranks = static_cast<std::size_t>(fabric.ranks);
  const std::size_t lanes = through_host ? staged_copy_buffers * ranks : copy_buffers * (ranks - 1);
  const std::size_t slot_packs = slot_bytes / lanes / pack_bytes / line_packs * line_packs, most_copies = through_host ? 128 : 512;
  if (slot_packs == 0) return false;
  const std::size_t pieces = (through_host ? pieces_through_host : pieces_to_peers)(chunk_packs, slot_packs);
  if (2 * pieces * ranks > most_copies) return false;
  const std::size_t piece_packs = divide_up(divide_up(chunk_packs, pieces), line_packs) * line_packs;
  plan.copies = true;
  plan.wire = Wire::flagged;
  plan.stages = static_cast<int>(through_host ? staged_copy_buffers : copy_buffers);
  plan.tile_bytes = piece_packs * pack_bytes;
  plan.threads = 512;
  plan.blocks = static_cast<int>(std::clamp<std::size_t>(divide_up(piece_packs, static_cast<std::size_t>(plan.threads)), 1, static_cast<std::size_t>(std::min(limit, few_blocks))));
  return true;
}

}  // namespace

int crews_of(const std::vector<Program>& programs, const Fabric& fabric) {
  if (fabric.backend != Backend::cuda || !fabric.meets_on_host()) return 1;
  int rounds = 1;
  for (const Program& program : programs) rounds = std::max(rounds, program.max_delay + 1);
  return rounds <= max_crews && fabric.ranks * rounds <= max_ranks ? rounds : 1;
}

std::size_t slot_bytes_of(const Plan& plan) {
  if (plan.wire != Wire::escaped) return plan.tile_bytes;
  return std::size_t{escaped_row_packs(static_cast<std::uint32_t>(plan.tile_bytes / pack_bytes), static_cast<std::uint32_t>(plan.threads))} * pack_bytes;
}

bool fits_sentinel(DataType type) { return type == DataType::float32 || type == DataType::float16 || type == DataType::bfloat16; }

bool has_copy_engines(const Fabric& fabric) { return fabric.backend == Backend::cuda && fabric.ranks > 1 && fabric.ranks_per_device <= 1; }

int block_limit(const Fabric& fabric, const PlannerOptions& options) {
  if (fabric.backend == Backend::host) return 1;
  // All blocks of all ranks on a device must run at once, and leave room for the caller's kernels.
  const std::uint32_t multiprocessors = fabric.multiprocessors > 0 ? fabric.multiprocessors : least_multiprocessors;
  const int share = static_cast<int>(multiprocessors / std::max(fabric.ranks_per_device, 1u));
  const int limit = std::clamp(share, 1, most_blocks);
  return options.max_blocks > 0 ? std::min(limit, options.max_blocks) : limit;
}

std::optional<std::size_t> shape_plan(Plan& plan, const Routine& routine, const Fabric& fabric, const PlannerOptions& options, Operation operation) {
  const std::size_t packs = std::max<std::size_t>(divide_up(plan.bytes, pack_bytes), 1);
  const std::size_t chunk_packs = longest_chunk(routine.programs.front(), packs);
  const int limit = block_limit(fabric, options);
  if (shape_copies(plan, chunk_packs, fabric, limit, options.copy_slot_bytes, operation)) return divide_up(chunk_packs, plan.tile_bytes / pack_bytes);
  plan.wire = routine.programs.front().offers ? Wire::flagged : wire_for(options, fabric, operation.type, plan.bytes);
  const Program& program = routine.programs_over(plan.wire).front();
  const int rows = std::max(program.rows, 1);
  if (has_direct_kernel(plan, fabric, options, operation)) {
    const bool scatters = operation.form == DirectForm::reduce_scatter || plan.choice.algorithm == Algorithm::two_shot;
    const bool moves = operation.form == DirectForm::move || operation.form == DirectForm::broadcast;
    const bool escapes = !moves && direct_wire(options, operation) == Wire::escaped;
    const std::size_t slot_bytes = options.sentinel_slot_bytes;
    const bool shaped = moves     ? shape_move(plan, chunk_packs, fabric.ranks, limit, slot_bytes)
                        : escapes ? shape_escaped(plan, chunk_packs, rows, fabric.ranks, limit, slot_bytes)
                                  : shape_direct(plan, chunk_packs, rows, fabric.ranks, scatters, limit, slot_bytes);
    if (!shaped) return {};
    return tiles_of(plan, chunk_packs);
  }
  plan.crews = crews_for(plan, routine.programs_over(plan.wire), fabric, limit);
  if (plan.crews > 1) {
    if (!shape_crews(plan, program, chunk_packs, limit, options.flagged_slot_bytes)) return {};
    return tiles_of(plan, chunk_packs);
  }
  if (fabric.backend == Backend::host) {
    plan.blocks = plan.threads = 1;
    plan.tile_bytes = std::min<std::size_t>(chunk_packs, 4096) * pack_bytes;  // 64 KB: a tile and its operands stay in a core's cache
  } else {
    plan.threads = chunk_packs <= 8192 ? 128 : chunk_packs <= 32768 ? 256 : 512;
    plan.blocks = static_cast<int>(std::clamp<std::size_t>(divide_up(chunk_packs, static_cast<std::size_t>(plan.threads)), 1, static_cast<std::size_t>(limit)));
    const std::size_t share = divide_up(chunk_packs, static_cast<std::size_t>(plan.blocks));
    // What is read over a link is told of tile by tile, which takes longer than anything that tiles would hide.
    plan.tile_bytes = (fabric.pulls() ? share : std::min<std::size_t>(share, 4 * static_cast<std::size_t>(plan.threads))) * pack_bytes;
  }
  const std::size_t slot_bytes = plan.wire == Wire::sentinel ? options.sentinel_slot_bytes : options.flagged_slot_bytes;
  fit_two_stages(plan, chunk_packs, rows, slot_bytes);
  const auto fewest = static_cast<std::size_t>(std::max(program.min_stages, 2));
  if (!fit_stages(plan, chunk_packs, rows, slot_bytes, fewest, std::max<std::size_t>(fewest, 8))) return {};
  return tiles_of(plan, chunk_packs);
}

}  // namespace collectives
