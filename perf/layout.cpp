#include "perf/layout.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <collectives/error.hpp>

namespace perf {
namespace {

using collectives::Backend;
using collectives::Error;
using collectives::ErrorCode;

constexpr int default_cpu_ranks = 4;

/// The number of ranks that is asked for, or 0.
int wanted_ranks(const Settings& settings) {
  if (settings.cpu_ranks) return *settings.cpu_ranks;
  if (settings.processes) return *settings.processes;
  if (settings.virtual_ranks) return *settings.virtual_ranks;
  if (settings.threads || settings.ranks_per_thread) return settings.threads.value_or(1) * settings.ranks_per_thread.value_or(1);
  return 0;
}

void place_ranks(Layout& layout, int ranks, const Settings& settings, const Survey& survey) {
  const bool share = settings.virtual_ranks.has_value();
  const bool enough = survey.gpus >= ranks || (share && survey.gpus > 0);
  layout.devices.assign(static_cast<std::size_t>(ranks), 0);
  if (settings.cpu_ranks) return;
  if (enough) {
    layout.backend = Backend::cuda;
    for (int rank = 0; rank < ranks; ++rank) layout.devices[static_cast<std::size_t>(rank)] = rank % survey.gpus;
  } else if (survey.gpus == 0) {
    layout.note = fmt::format("No GPU ({}): {} CPU ranks instead", survey.why_none, ranks);
  } else {
    layout.note = fmt::format("{} GPU{} for {} ranks: CPU ranks instead. --virtual {} would let them share", survey.gpus,
                              survey.gpus == 1 ? "" : "s", ranks, ranks);
  }
}

void share_among_threads(Layout& layout, const Settings& settings) {
  const int ranks = layout.ranks();
  const int threads = settings.threads.value_or(settings.ranks_per_thread ? ranks / *settings.ranks_per_thread : ranks);
  if (threads < 1 || ranks % threads != 0 || (settings.ranks_per_thread && threads * *settings.ranks_per_thread != ranks))
    throw Error(ErrorCode::invalid_argument, fmt::format("{} ranks cannot be shared out as -t {} -g {}: expected t * g ranks", ranks,
                                                         settings.threads ? std::to_string(*settings.threads) : "any",
                                                         settings.ranks_per_thread ? std::to_string(*settings.ranks_per_thread) : "any"));
  layout.threads = threads;
  layout.ranks_per_thread = ranks / threads;
}

}  // namespace

bool Layout::shares_devices() const {
  auto sorted = devices;
  std::sort(sorted.begin(), sorted.end());
  return on_gpu() && std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end();
}

Layout choose_layout(const Settings& settings, const Survey& survey) {
  Layout layout;
  int ranks = wanted_ranks(settings);
  if (ranks == 0) ranks = survey.gpus >= 2 ? std::min(survey.gpus, collectives::max_ranks) : default_cpu_ranks;
  if (ranks < 2 || ranks > collectives::max_ranks)
    throw Error(ErrorCode::invalid_argument, fmt::format("{} ranks: expected 2 to {}", ranks, collectives::max_ranks));
  place_ranks(layout, ranks, settings, survey);
  if (settings.processes)
    layout.processes = ranks;
  else
    share_among_threads(layout, settings);
  if (!settings.compare.empty() && !layout.on_gpu())
    throw Error(ErrorCode::invalid_argument,
                "--compare needs a GPU a rank: " + (layout.note.empty() ? "these are CPU ranks" : layout.note));
  if (!settings.compare.empty() && layout.shares_devices())
    throw Error(ErrorCode::invalid_argument, "--compare needs a GPU a rank: NCCL refuses ranks that share one");
  return layout;
}

}  // namespace perf
