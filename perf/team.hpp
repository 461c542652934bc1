#pragma once

#include <collectives/communicator.hpp>
#include <functional>
#include <memory>
#include <vector>

#include "perf/board.hpp"
#include "perf/layout.hpp"
#include "perf/place.hpp"

namespace perf {

/// One thread or process and the ranks it drives.
struct Worker {
  const Settings* settings = nullptr;
  const Layout* layout = nullptr;
  Board* board = nullptr;
  int index = 0;
  int first_rank = 0;
  std::vector<collectives::Communicator> communicators;  ///< of its own ranks
  std::vector<std::unique_ptr<Place>> places;
  double creation_ms = 0;  ///< from asking for the communicators to having them; CUDA's contexts were up before

  int local_ranks() const { return static_cast<int>(places.size()); }
  bool leads() const { return index == 0; }
};

/// What a worker does. Returns the exit status; the run's is the largest.
using Program = std::function<int(Worker&)>;

/// Forms the communicator and runs `program` on every worker. A worker that throws ends the run for all: its message goes to
/// standard error and the result is not zero. With processes in the layout this process must not have called CUDA.
int run_team(const Settings& settings, const Layout& layout, std::size_t figures_per_rank, const Program& program);

/// Asks CUDA in a child process, so that this one may fork later.
Survey survey_gpus_in_child();

}  // namespace perf
