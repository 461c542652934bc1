#pragma once

#include <collectives/types.hpp>
#include <cstddef>
#include <cstdint>

namespace perf {

inline constexpr int max_host_floor_ranks = 8;

/// A stream of stores to pinned memory or of loads from it, 16 bytes a lane.
struct HostFlow {
  std::byte* memory[max_host_floor_ranks];  ///< tiles go round these
  int memories = 1;
  bool loads = false;
  std::size_t packs = 0;       ///< of 16 bytes, in all
  std::size_t ring_packs = 0;  ///< of each memory: behind them it begins again
  std::uint32_t* sink = nullptr;  ///< where the device may write
};

/// Words in pinned memory by which ranks tell how far they are.
struct HostWords {
  std::uint32_t* of[max_host_floor_ranks];
  int rank = 0, ranks = 0;
  std::uint32_t max_polls = 0;        ///< of a wait; then the kernel gives up
  std::uint32_t* gave_up = nullptr;  ///< on this GPU
};

/// A stripped two-shot: what each round stores, polls for and loads, by blocks of its own. No input, no sum, no output; a rank scatters no more tiles
/// ahead of what it gathers than there are stages, and waits for no credit.
struct HostTwoShot {
  HostWords words;                          ///< [scatter or gather][block]: tiles so far
  std::byte* memory[max_host_floor_ranks];  ///< of each rank: its tiles for each owner, then its totals, [owner][block][stage]
  std::uint32_t tiles = 0, stages = 1, tile_packs = 0;
  std::uint32_t before = 0;  ///< tiles that earlier calls have told of
  std::uint32_t* gathered = nullptr;  ///< on this GPU, [block]: tiles so far
};

/// Each on `stream` of the current device. Throw Error(device).
void launch_flow(const HostFlow& flow, int blocks, int threads, collectives::Stream stream);
/// `blocks` are of each round; all must be resident at once.
void launch_host_two_shot(const HostTwoShot& args, int blocks, int threads, collectives::Stream stream);
/// Tells of `target` in this rank's word and waits for it in everybody's.
void launch_meeting(const HostWords& words, std::uint32_t target, collectives::Stream stream);
/// Adds rows of packs, `row_packs` apart, to `out`.
void launch_row_sum(const std::byte* rows, int row_count, std::size_t row_packs, std::byte* out, collectives::Stream stream);

}  // namespace perf
