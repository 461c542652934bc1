#include "perf/collective.hpp"

namespace {

using namespace perf;

constexpr Collective broadcast{
    .name = "broadcast_perf",
    .kind = collectives::Collective::broadcast,
    // The root must send the message once, every other rank receive it.
    .bus_factor = [](int) { return 1.0; },
    .enqueue = [](collectives::Communicator& communicator, const Call& call) { communicator.broadcast(call.in, call.out, call.root, call.stream); },
    .enqueue_nccl =
        [](const NcclApi& nccl, NcclComm comm, const Call& call) {
          return nccl.broadcast(call.in.data, call.out.data, call.count, nccl_type(call.in.type), call.root, comm, call.stream);
        },
};

}  // namespace

int main(int argc, char** argv) { return perf_main(argc, argv, broadcast); }
