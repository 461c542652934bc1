#pragma once

#include <collectives/types.hpp>
#include <cstddef>
#include <memory>

#include "nccl_shim/group.hpp"
#include "nccl_shim/rank.hpp"

namespace collectives {

// The collectives on a rank of ours. Arguments are checked before anything is queued or enqueued; throws Error(invalid_argument).

/// What every collective is asked with, in NCCL's terms.
struct DropInRequest {
  const void* in = nullptr;
  void* out = nullptr;
  std::size_t count = 0;  ///< as the function has it: of one block where there are several
  int type = 0;
  int op = 0;
  int root = 0;  ///< or the peer
  Stream stream = nullptr;
};

using DropInRankPointer = std::shared_ptr<DropInRank>;

/// Throws Error(invalid_argument) for a number that is no ncclDataType_t.
DataType data_type_of_nccl(int type);

void ask_all_gather(const DropInRankPointer& rank, const DropInRequest& request);
void ask_all_reduce(const DropInRankPointer& rank, const DropInRequest& request);
void ask_all_to_all(const DropInRankPointer& rank, const DropInRequest& request);
void ask_broadcast(const DropInRankPointer& rank, const DropInRequest& request);
void ask_gather(const DropInRankPointer& rank, const DropInRequest& request);
void ask_reduce(const DropInRankPointer& rank, const DropInRequest& request);
void ask_reduce_scatter(const DropInRankPointer& rank, const DropInRequest& request);
void ask_scatter(const DropInRankPointer& rank, const DropInRequest& request);
void ask_send(const DropInRankPointer& rank, const DropInRequest& request);
void ask_receive(const DropInRankPointer& rank, const DropInRequest& request);

/// A new operation that multiplies with a factor before it sums; its number.
int make_pre_mul_sum(DropInRank& rank, const void* scalar, int type, int residence);

}  // namespace collectives
