// NCCL's collectives: each function under its profiling name, of which the usual name is a weak alias.
#include "nccl_shim/calls.hpp"
#include "nccl_shim/entry.hpp"

using namespace collectives;

#pragma GCC visibility push(default)
extern "C" {

NcclResult pncclAllGather(const void* in, void* out, std::size_t count, int type, NcclComm* comm, Stream stream) {
  return serve_rank(
      "ncclAllGather", comm,
      [&](const NcclFunctions& real, NcclComm* theirs) { return required(real.all_gather, "ncclAllGather")(in, out, count, type, theirs, stream); },
      [&](const DropInRankPointer& rank) {
        ask_all_gather(rank, {.in = in, .out = out, .count = count, .type = type, .stream = stream});
        return nccl_success;
      });
}

NcclResult pncclAllReduce(const void* in, void* out, std::size_t count, int type, int op, NcclComm* comm, Stream stream) {
  return serve_rank(
      "ncclAllReduce", comm,
      [&](const NcclFunctions& real, NcclComm* theirs) { return required(real.all_reduce, "ncclAllReduce")(in, out, count, type, op, theirs, stream); },
      [&](const DropInRankPointer& rank) {
        ask_all_reduce(rank, {.in = in, .out = out, .count = count, .type = type, .op = op, .stream = stream});
        return nccl_success;
      });
}

NcclResult pncclAlltoAll(const void* in, void* out, std::size_t count, int type, NcclComm* comm, Stream stream) {
  return serve_rank(
      "ncclAlltoAll", comm,
      [&](const NcclFunctions& real, NcclComm* theirs) { return required(real.all_to_all, "ncclAlltoAll")(in, out, count, type, theirs, stream); },
      [&](const DropInRankPointer& rank) {
        ask_all_to_all(rank, {.in = in, .out = out, .count = count, .type = type, .stream = stream});
        return nccl_success;
      });
}

NcclResult pncclBcast(void* data, std::size_t count, int type, int root, NcclComm* comm, Stream stream) {
  return serve_rank(
      "ncclBcast", comm,
      [&](const NcclFunctions& real, NcclComm* theirs) { return required(real.bcast, "ncclBcast")(data, count, type, root, theirs, stream); },
      [&](const DropInRankPointer& rank) {
        ask_broadcast(rank, {.in = data, .out = data, .count = count, .type = type, .root = root, .stream = stream});
        return nccl_success;
      });
}

NcclResult pncclBroadcast(const void* in, void* out, std::size_t count, int type, int root, NcclComm* comm, Stream stream) {
  return serve_rank(
      "ncclBroadcast", comm,
      [&](const NcclFunctions& real, NcclComm* theirs) { return required(real.broadcast, "ncclBroadcast")(in, out, count, type, root, theirs, stream); },
      [&](const DropInRankPointer& rank) {
        ask_broadcast(rank, {.in = in, .out = out, .count = count, .type = type, .root = root, .stream = stream});
        return nccl_success;
      });
}

NcclResult pncclGather(const void* in, void* out, std::size_t count, int type, int root, NcclComm* comm, Stream stream) {
  return serve_rank(
      "ncclGather", comm,
      [&](const NcclFunctions& real, NcclComm* theirs) { return required(real.gather, "ncclGather")(in, out, count, type, root, theirs, stream); },
      [&](const DropInRankPointer& rank) {
        ask_gather(rank, {.in = in, .out = out, .count = count, .type = type, .root = root, .stream = stream});
        return nccl_success;
      });
}

NcclResult pncclReduce(const void* in, void* out, std::size_t count, int type, int op, int root, NcclComm* comm, Stream stream) {
  return serve_rank(
      "ncclReduce", comm,
      [&](const NcclFunctions& real, NcclComm* theirs) { return required(real.reduce, "ncclReduce")(in, out, count, type, op, root, theirs, stream); },
      [&](const DropInRankPointer& rank) {
        ask_reduce(rank, {.in = in, .out = out, .count = count, .type = type, .op = op, .root = root, .stream = stream});
        return nccl_success;
      });
}

NcclResult pncclReduceScatter(const void* in, void* out, std::size_t count, int type, int op, NcclComm* comm, Stream stream) {
  return serve_rank(
      "ncclReduceScatter", comm,
      [&](const NcclFunctions& real, NcclComm* theirs) { return required(real.reduce_scatter, "ncclReduceScatter")(in, out, count, type, op, theirs, stream); },
      [&](const DropInRankPointer& rank) {
        ask_reduce_scatter(rank, {.in = in, .out = out, .count = count, .type = type, .op = op, .stream = stream});
        return nccl_success;
      });
}

NcclResult pncclScatter(const void* in, void* out, std::size_t count, int type, int root, NcclComm* comm, Stream stream) {
  return serve_rank(
      "ncclScatter", comm,
      [&](const NcclFunctions& real, NcclComm* theirs) { return required(real.scatter, "ncclScatter")(in, out, count, type, root, theirs, stream); },
      [&](const DropInRankPointer& rank) {
        ask_scatter(rank, {.in = in, .out = out, .count = count, .type = type, .root = root, .stream = stream});
        return nccl_success;
      });
}

NcclResult pncclSend(const void* in, std::size_t count, int type, int peer, NcclComm* comm, Stream stream) {
  return serve_rank(
      "ncclSend", comm,
      [&](const NcclFunctions& real, NcclComm* theirs) { return required(real.send, "ncclSend")(in, count, type, peer, theirs, stream); },
      [&](const DropInRankPointer& rank) {
        ask_send(rank, {.in = in, .count = count, .type = type, .root = peer, .stream = stream});
        return nccl_success;
      });
}

NcclResult pncclRecv(void* out, std::size_t count, int type, int peer, NcclComm* comm, Stream stream) {
  return serve_rank(
      "ncclRecv", comm,
      [&](const NcclFunctions& real, NcclComm* theirs) { return required(real.recv, "ncclRecv")(out, count, type, peer, theirs, stream); },
      [&](const DropInRankPointer& rank) {
        ask_receive(rank, {.out = out, .count = count, .type = type, .root = peer, .stream = stream});
        return nccl_success;
      });
}

NcclResult pncclRedOpCreatePreMulSum(int* op, void* scalar, int type, int residence, NcclComm* comm) {
  return serve_rank(
      "ncclRedOpCreatePreMulSum", comm,
      [&](const NcclFunctions& real, NcclComm* theirs) { return required(real.red_op_create_pre_mul_sum, "ncclRedOpCreatePreMulSum")(op, scalar, type, residence, theirs); },
      [&](const DropInRankPointer& rank) {
        nccl_given(op, "op") = make_pre_mul_sum(*rank, scalar, type, residence);
        return nccl_success;
      });
}

NcclResult pncclRedOpDestroy(int op, NcclComm* comm) {
  return serve_rank(
      "ncclRedOpDestroy", comm,
      [&](const NcclFunctions& real, NcclComm* theirs) { return required(real.red_op_destroy, "ncclRedOpDestroy")(op, theirs); },
      [&](const DropInRankPointer& rank) {
        rank->remove_operation(op);
        return nccl_success;
      });
}

// The usual names. Their types are the table's: the compiler refuses an alias of another type.
extern Signature<&NcclFunctions::all_gather> ncclAllGather __attribute__((weak, alias("pncclAllGather")));
extern Signature<&NcclFunctions::all_reduce> ncclAllReduce __attribute__((weak, alias("pncclAllReduce")));
extern Signature<&NcclFunctions::all_to_all> ncclAlltoAll __attribute__((weak, alias("pncclAlltoAll")));
extern Signature<&NcclFunctions::bcast> ncclBcast __attribute__((weak, alias("pncclBcast")));
extern Signature<&NcclFunctions::broadcast> ncclBroadcast __attribute__((weak, alias("pncclBroadcast")));
extern Signature<&NcclFunctions::gather> ncclGather __attribute__((weak, alias("pncclGather")));
extern Signature<&NcclFunctions::reduce> ncclReduce __attribute__((weak, alias("pncclReduce")));
extern Signature<&NcclFunctions::reduce_scatter> ncclReduceScatter __attribute__((weak, alias("pncclReduceScatter")));
extern Signature<&NcclFunctions::scatter> ncclScatter __attribute__((weak, alias("pncclScatter")));
extern Signature<&NcclFunctions::send> ncclSend __attribute__((weak, alias("pncclSend")));
extern Signature<&NcclFunctions::recv> ncclRecv __attribute__((weak, alias("pncclRecv")));
extern Signature<&NcclFunctions::red_op_create_pre_mul_sum> ncclRedOpCreatePreMulSum __attribute__((weak, alias("pncclRedOpCreatePreMulSum")));
extern Signature<&NcclFunctions::red_op_destroy> ncclRedOpDestroy __attribute__((weak, alias("pncclRedOpDestroy")));
}  // extern "C"
#pragma GCC visibility pop
