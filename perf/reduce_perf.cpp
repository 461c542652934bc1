#include "perf/collective.hpp"

namespace {

using namespace perf;

constexpr Collective reduce{
    .name = "reduce_perf",
    .kind = collectives::Collective::reduce,
    // The root must receive the message once, every other rank send it.
    .bus_factor = [](int) { return 1.0; },
    .enqueue = [](collectives::Communicator& communicator, const Call& call) { communicator.reduce(call.in, call.out, call.op, call.root, call.stream); },
    .enqueue_nccl =
        [](const NcclApi& nccl, NcclComm comm, const Call& call) {
          return nccl.reduce(call.in.data, call.out.data, call.count, nccl_type(call.in.type), nccl_op(call.op), call.root, comm, call.stream);
        },
};

}  // namespace

int main(int argc, char** argv) { return perf_main(argc, argv, reduce); }
