#include "perf/collective.hpp"

namespace {

using namespace perf;

int next(const Call& call) { return (call.rank + 1) % call.ranks; }
int previous(const Call& call) { return (call.rank + call.ranks - 1) % call.ranks; }

void enqueue(collectives::Communicator& communicator, const Call& call) {
  const collectives::Send send{call.in, next(call)};
  const collectives::Receive receive{call.out, previous(call)};
  communicator.exchange({&send, 1}, {&receive, 1}, call.stream);
}

int enqueue_nccl(const NcclApi& nccl, NcclComm comm, const Call& call) {
  int result = nccl.group_start();
  if (result == 0) result = nccl.send(call.in.data, call.count, nccl_type(call.in.type), next(call), comm, call.stream);
  if (result == 0) result = nccl.receive(call.out.data, call.count, nccl_type(call.out.type), previous(call), comm, call.stream);
  const int closed = nccl.group_end();
  return result != 0 ? result : closed;
}

constexpr Collective sendrecv{
    .name = "sendrecv_perf",
    .kind = collectives::Collective::exchange,
    // Every rank sends to the next: each port carries the message once.
    .bus_factor = [](int) { return 1.0; },
    .enqueue = enqueue,
    .enqueue_nccl =
        enqueue_nccl,
};

}  // namespace

int main(int argc, char** argv) { return perf_main(argc, argv, sendrecv); }
