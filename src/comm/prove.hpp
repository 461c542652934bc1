#pragma once

#include <array>
#include <collectives/communicator.hpp>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/atomics.hpp"
#include "kernels/control.hpp"
#include "topology/fabric.hpp"

namespace collectives {

using RankMasks = std::array<std::uint32_t, max_ranks>;  ///< by rank, a bit a peer
using PoolBases = std::array<std::byte*, max_ranks>;

/// By rank: the peers with whom its link must be proved before anything depends on it. Ranks that share a GPU share its links: the
/// first of them proves for all. `first_on_gpu[r]` is the first rank on the GPU of rank r.
RankMasks due_proofs(const Fabric& fabric, const std::vector<int>& first_on_gpu);
bool any(const RankMasks& masks);

/// The ranks from whose stores nothing or nothing right came to each rank; its link with them, and that of all ranks on the same
/// GPUs, leads through host memory from now on. A line in the log for each. True if there were any.
bool demote(Fabric& fabric, const RankMasks& failed, const std::vector<int>& first_on_gpu);

/// A rank of this process and the peers' pools as it reaches them.
struct ProvingRank {
  int rank = 0;
  int device = -1;
  PoolBases pools{};
};
/// The proof by these ranks, in the slots for flagged packs, which hold nothing yet. By rank, whose data failed.
RankMasks prove(const std::vector<ProvingRank>& ranks, const RankMasks& due, int size, const kernels::Layout& layout, Mark nonce);

}  // namespace collectives
