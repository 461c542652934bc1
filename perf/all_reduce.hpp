#pragma once

#include "perf/collective.hpp"

namespace perf {

inline constexpr Collective all_reduce{
    .name = "all_reduce_perf",
    .kind = collectives::Collective::all_reduce,
    // Every rank must send and receive 2 (n-1)/n of the message, whatever the algorithm.
    .bus_factor = [](int ranks) { return 2.0 * (ranks - 1) / ranks; },
    .enqueue = [](collectives::Communicator& communicator,
                  const Call& call) { communicator.all_reduce(call.in, call.out, call.op, call.stream); },
    .enqueue_nccl =
        [](const NcclApi& nccl, NcclComm comm, const Call& call) {
          return nccl.all_reduce(call.in.data, call.out.data, call.in.count, nccl_type(call.in.type), nccl_op(call.op), comm, call.stream);
        },
};

}  // namespace perf
