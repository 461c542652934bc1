#pragma once

#include <collectives/types.hpp>
#include <string>
#include <vector>

#include "perf/options.hpp"

namespace perf {

/// The GPUs there are, or why there is none.
struct Survey {
  int gpus = 0;
  std::string why_none;
};

/// Which ranks run where. Ranks are numbered thread by thread, or process by process.
struct Layout {
  collectives::Backend backend = collectives::Backend::host;
  int processes = 0;  ///< 0: threads of this process; else one rank each
  int threads = 1;
  int ranks_per_thread = 1;
  std::vector<int> devices;  ///< one a rank; on the host backend only their number counts
  std::string note;          ///< what people should know about the choice; may be empty

  int ranks() const { return static_cast<int>(devices.size()); }
  int workers() const { return processes > 0 ? processes : threads; }
  int ranks_per_worker() const { return processes > 0 ? 1 : ranks_per_thread; }
  bool on_gpu() const { return backend == collectives::Backend::cuda; }
  bool shares_devices() const;
};

/// Without a wish: all GPUs if there are two or more, else four CPU ranks; one thread a rank. Ranks share a GPU only if
/// --virtual asks for it. Throws Error(invalid_argument) for fewer than two or more than sixteen ranks, or wishes that do
/// not fit together.
Layout choose_layout(const Settings& settings, const Survey& survey);

}  // namespace perf
