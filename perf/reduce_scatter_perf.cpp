#include "perf/collective.hpp"

namespace {

using namespace perf;

constexpr Collective reduce_scatter{
    .name = "reduce_scatter_perf",
    .kind = collectives::Collective::reduce_scatter,
    // Every rank must send (n-1)/n of the message.
    .bus_factor = [](int ranks) { return static_cast<double>(ranks - 1) / ranks; },
    .enqueue = [](collectives::Communicator& communicator, const Call& call) { communicator.reduce_scatter(call.in, call.out, call.op, call.stream); },
    .enqueue_nccl =
        [](const NcclApi& nccl, NcclComm comm, const Call& call) {
          return nccl.reduce_scatter(call.in.data, call.out.data, call.count, nccl_type(call.in.type), nccl_op(call.op), comm, call.stream);
        },
};

}  // namespace

int main(int argc, char** argv) { return perf_main(argc, argv, reduce_scatter); }
