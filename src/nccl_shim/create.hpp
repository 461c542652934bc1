#pragma once

#include "nccl_shim/abi.hpp"
#include "nccl_shim/rank.hpp"

namespace collectives {

// How communicators come to be. Each writes the new handle and gives nccl_success, or nccl_in_progress where the making goes on in
// the background; throws Error(invalid_argument) for wrong arguments, and what went wrong in the making where that is awaited.

NcclId make_nccl_id();
NcclResult create_rank(NcclComm** comm, int ranks, const NcclId& id, int rank, const NcclConfig* config);
NcclResult create_all_ranks(NcclComm** comms, int count, const int* devices);
NcclResult split_rank(const std::shared_ptr<DropInRank>& parent, int color, int key, NcclComm** made, const NcclConfig* config);
NcclResult shrink_rank(const std::shared_ptr<DropInRank>& parent, const int* excluded, int excluded_count, NcclComm** made, const NcclConfig* config, int flags);

}  // namespace collectives
