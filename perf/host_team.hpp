#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "perf/cuda_checked.hpp"
#include "perf/host_floor.hpp"
#include "perf/pinned_memory.hpp"
#include "perf/place.hpp"

namespace perf {

/// What moves bytes between a GPU and pinned memory, if anything.
enum class Mover { none, multiprocessors, engines };

/// A way of streaming through pinned memory.
struct HostStreams {
  Mover out = Mover::none, in = Mover::none;
  std::size_t out_bytes = 0, in_bytes = 0;  ///< of every GPU
  std::size_t ring_bytes = 0;               ///< of each GPU's memory that is written or read again and again
  int blocks = 16;                          ///< of 512 threads, for each direction
  std::size_t piece_bytes = 0;              ///< that engines move at a time
};

/// Of the slowest GPU; 0 where nothing moves.
struct HostRates {
  double out_gb_per_s = 0, in_gb_per_s = 0;
};

struct CrewGrid {
  int blocks = 16;  ///< of each crew
  std::uint32_t tile_packs = 1024, stages = 8;
};

struct PieceGrid {
  int pieces = 4;   ///< of each chunk
  int lag = 2;      ///< a total is copied so many pieces behind its operands
  int buffers = 4;  ///< slots of a lane
};

/// GPUs that meet in pinned memory alone, of one process. Everything of the slowest of them, the median of some repetitions. CUDA failures and
/// words that did not come are thrown.
class HostTeam {
 public:
  HostTeam(int ranks, int repetitions);
  ~HostTeam();
  HostTeam(const HostTeam&) = delete;
  HostTeam& operator=(const HostTeam&) = delete;

  int size() const { return static_cast<int>(ranks_.size()); }
  /// All GPUs at once, each in both directions at once.
  HostRates stream(const HostStreams& streams);
  /// Microseconds of a stripped two-shot, by crews of blocks.
  double by_crews(std::size_t bytes, const CrewGrid& grid);
  /// The same by copy engines, one-warp kernels between copies and a kernel that adds, in a graph.
  double by_engines(std::size_t bytes, const PieceGrid& grid);

 private:
  enum Lane { out_lane, in_lane, scattered_lane, gathered_lane, sum_lane, lanes };
  struct Rank;

  Rank& at(int rank) { return *ranks_[static_cast<std::size_t>(rank)]; }
  HostWords words_of(int rank, int first_word);
  void enqueue_stream(int rank, const HostStreams& streams, bool in);
  void enqueue_engines(int rank, std::size_t bytes, const PieceGrid& grid, std::uint32_t before);
  double slowest(const std::function<void(int)>& enqueue);
  void expect_all_came();

  int repetitions_;
  std::vector<std::unique_ptr<Rank>> ranks_;
};

}  // namespace perf
