#include "perf/collective.hpp"

namespace {

using namespace perf;

constexpr Collective all_gather{
    .name = "all_gather_perf",
    .kind = collectives::Collective::all_gather,
    // Every rank must receive (n-1)/n of the message.
    .bus_factor = [](int ranks) { return static_cast<double>(ranks - 1) / ranks; },
    .enqueue = [](collectives::Communicator& communicator, const Call& call) { communicator.all_gather(call.in, call.out, call.stream); },
    .enqueue_nccl =
        [](const NcclApi& nccl, NcclComm comm, const Call& call) {
          return nccl.all_gather(call.in.data, call.out.data, call.count, nccl_type(call.in.type), comm, call.stream);
        },
};

}  // namespace

int main(int argc, char** argv) { return perf_main(argc, argv, all_gather); }
