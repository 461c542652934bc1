#include "perf/collective.hpp"

namespace {

using namespace perf;

/// As one group: NCCL has a call of its own since 2.28 only, which does the same.
int enqueue_nccl(const NcclApi& nccl, NcclComm comm, const Call& call) {
  const int type = nccl_type(call.out.type);
  const std::size_t block = call.count * collectives::size_of(call.out.type);
  int result = nccl.group_start();
  for (int to = 0; to < call.ranks && call.rank == call.root && result == 0; ++to)
    result = nccl.send(static_cast<const std::byte*>(call.in.data) + block * static_cast<std::size_t>(to), call.count, type, to, comm, call.stream);
  if (result == 0) result = nccl.receive(call.out.data, call.count, type, call.root, comm, call.stream);
  const int closed = nccl.group_end();
  return result != 0 ? result : closed;
}

constexpr Collective scatter{
    .name = "scatter_perf",
    .kind = collectives::Collective::scatter,
    // The root sends all blocks but its own.
    .bus_factor = [](int ranks) { return static_cast<double>(ranks - 1) / ranks; },
    .enqueue = [](collectives::Communicator& communicator, const Call& call) { communicator.scatter(call.in, call.out, call.root, call.stream); },
    .enqueue_nccl =
        enqueue_nccl,
};

}  // namespace

int main(int argc, char** argv) { return perf_main(argc, argv, scatter); }
