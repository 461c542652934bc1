#include "perf/collective.hpp"

namespace {

using namespace perf;

/// As one group: NCCL has a call of its own since 2.28 only, which does the same.
int enqueue_nccl(const NcclApi& nccl, NcclComm comm, const Call& call) {
  const int type = nccl_type(call.in.type);
  const std::size_t block = call.count * collectives::size_of(call.in.type);
  int result = nccl.group_start();
  if (result == 0) result = nccl.send(call.in.data, call.count, type, call.root, comm, call.stream);
  for (int from = 0; from < call.ranks && call.rank == call.root && result == 0; ++from)
    result = nccl.receive(static_cast<std::byte*>(call.out.data) + block * static_cast<std::size_t>(from), call.count, type, from, comm, call.stream);
  const int closed = nccl.group_end();
  return result != 0 ? result : closed;
}

constexpr Collective gather{
    .name = "gather_perf",
    .kind = collectives::Collective::gather,
    // The root receives all blocks but its own.
    .bus_factor = [](int ranks) { return static_cast<double>(ranks - 1) / ranks; },
    .enqueue = [](collectives::Communicator& communicator, const Call& call) { communicator.gather(call.in, call.out, call.root, call.stream); },
    .enqueue_nccl =
        enqueue_nccl,
};

}  // namespace

int main(int argc, char** argv) { return perf_main(argc, argv, gather); }
