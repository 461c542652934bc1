#include "perf/collective.hpp"

namespace {

using namespace perf;

/// Every pair as one group: NCCL has a call of its own since 2.28 only, which does the same.
int enqueue_nccl(const NcclApi& nccl, NcclComm comm, const Call& call) {
  const int type = nccl_type(call.in.type);
  const std::size_t block = call.count * collectives::size_of(call.in.type);
  int result = nccl.group_start();
  for (int peer = 0; peer < call.ranks; ++peer) {
    const std::size_t at = block * static_cast<std::size_t>(peer);
    if (result == 0) result = nccl.send(static_cast<const std::byte*>(call.in.data) + at, call.count, type, peer, comm, call.stream);
    if (result == 0) result = nccl.receive(static_cast<std::byte*>(call.out.data) + at, call.count, type, peer, comm, call.stream);
  }
  const int closed = nccl.group_end();
  return result != 0 ? result : closed;
}

constexpr Collective alltoall{
    .name = "alltoall_perf",
    .kind = collectives::Collective::all_to_all,
    // A rank keeps one block of n.
    .bus_factor = [](int ranks) { return static_cast<double>(ranks - 1) / ranks; },
    .enqueue = [](collectives::Communicator& communicator, const Call& call) { communicator.all_to_all(call.in, call.out, call.stream); },
    .enqueue_nccl =
        enqueue_nccl,
};

}  // namespace

int main(int argc, char** argv) { return perf_main(argc, argv, alltoall); }
