#pragma once

#include <cstdint>

#include "base/atomics.hpp"

// How direct calls lie over threads and slots, as the planner plans them and the kernels do them (kernels/README.md).
namespace collectives {

/// Sums whose slots hold all their tiles: threads a block, and the most packs of a tile that one has; of two ranks that send once (kernels/direct_pair.cuh), and of
/// two-shot between more (kernels/direct_phased.cuh), which with more than four has not been measured.
constexpr std::uint32_t roomy_threads = 512, pair_packs = 2;
constexpr bool has_phased(int ranks) { return ranks == 3 || ranks == 4; }

/// What only moves (kernels/direct_move.cuh), in many tiles. A thread holds this many packs for each peer twice, what it sends next, and what comes; between two ranks thrice, for
/// what it sends after that. With the warp that minds the peers blocks are of 16, 12 or 8 warps, for that is what a multiprocessor's four
/// register files divide among. Fewer than eight packs: their escapes, and what else a word says, are 32 bits.
constexpr int streamed_move_packs(int ranks) { return ranks <= 3 ? 4 : ranks == 4 ? 3 : 2; }
constexpr int streamed_move_threads(int ranks) { return ranks == 2 ? 480 : ranks <= 6 ? 352 : 224; }

/// What only moves in one tile: one pack, two or four. With more than two ranks nothing but one has been measured.
constexpr int move_once_packs(int ranks) { return ranks == 2 ? 4 : 1; }
constexpr int move_once_threads = 512;

/// What is reduced over the escaped wire (kernels/direct_reduce.cuh): packs of a tile that a thread has, and threads a block. It holds thrice as many for each
/// peer: of the tiles that it sends, reduces and gathers.
constexpr int reduced_packs(int ranks) { return ranks <= 4 ? 2 : 1; }
constexpr int reduced_threads(int ranks) { return ranks <= 3 ? 480 : 352; }

/// Packs of a row of slots in which `threads` threads, a multiple of four, leave a tile and a word of escapes each.
COLLECTIVES_HOST_DEVICE constexpr std::uint32_t escaped_row_packs(std::uint32_t tile_packs, std::uint32_t threads) { return tile_packs + threads / 4; }

}  // namespace collectives
