#pragma once

#include <memory>
#include <vector>

#include "comm/impl.hpp"
#include "exec/executor.hpp"
#include "planner/program.hpp"

namespace collectives {

/// Ranks on host threads below the planner and the communicator: for schedules that no planner chooses.
class Team {
 public:
  Team(int ranks, const kernels::Layout& layout, Epoch first_epoch = 0xfffffff0u) {
    for (int rank = 0; rank < ranks; ++rank) pools_.push_back(make_rank_pool(PoolKind::host, -1, std::size_t{1} << 30, layout, first_epoch));
    for (int rank = 0; rank < ranks; ++rank) {
      RankContext context{.rank = rank, .ranks = ranks, .device = -1, .timeout_ns = 5'000'000'000u, .first_epoch = first_epoch, .layout = layout};
      for (std::size_t peer = 0; peer < pools_.size(); ++peer) context.pools[peer] = context.common[peer] = pools_[peer].pool->base();
      executors_.push_back(make_host_executor(std::move(context)));
    }
  }

  /// One call of every rank, to its end. `plan` says wire, tile and stages. Throws what a rank found wrong.
  void run(const std::vector<Call>& calls, Plan plan, const std::vector<Program>& programs) {
    for (std::size_t rank = 0; rank < executors_.size(); ++rank) executors_[rank]->enqueue(calls[rank], plan, programs[rank], nullptr);
    for (auto& executor : executors_) executor->synchronize(nullptr);
    for (auto& executor : executors_)
      if (auto fault = executor->fault(false)) throw *fault;
  }

 private:
  std::vector<RankPool> pools_;
  std::vector<std::unique_ptr<Executor>> executors_;
};

/// A layout with this many bytes in each half of each wire's slots.
constexpr kernels::Layout layout_of(std::size_t bytes) { return {.sentinel_bytes = bytes, .flagged_bytes = bytes}; }

}  // namespace collectives
