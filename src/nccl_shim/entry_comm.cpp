// NCCL's communicators: how they begin, what can be asked of them, how they end.
#include <algorithm>
#include <exception>
#include <thread>

#include "nccl_shim/create.hpp"
#include "nccl_shim/entry.hpp"

using namespace collectives;

namespace {

using RankPointer = std::shared_ptr<DropInRank>;

/// The end of a communicator, by its handle. Null is none.
NcclResult end_rank(const char* function, NcclComm* comm, bool by_abort) {
  return nccl_guard(function, [&]() -> NcclResult {
    if (const NcclFunctions* all = forwarding()) return by_abort ? required(all->comm_abort, function)(comm) : required(all->comm_destroy, function)(comm);
    if (comm == nullptr) return nccl_success;
    // One that is still being made goes by itself once it is.
    const RankPointer rank = retire(comm);
    if (by_abort) rank->abort();
    return rank->end_real(by_abort);
  });
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

NcclResult pncclGetUniqueId(NcclId* id) {
  return serve(
      "ncclGetUniqueId", [&](const NcclFunctions& real) { return real.get_unique_id(id); },
      [&] {
        nccl_given(id, "uniqueId") = make_nccl_id();
        return nccl_success;
      });
}

NcclResult pncclCommInitRank(NcclComm** comm, int ranks, NcclId id, int rank) {
  return serve(
      "ncclCommInitRank", [&](const NcclFunctions& real) { return real.comm_init_rank(comm, ranks, id, rank); },
      [&] { return create_rank(comm, ranks, id, rank, nullptr); });
}

NcclResult pncclCommInitRankConfig(NcclComm** comm, int ranks, NcclId id, int rank, NcclConfig* config) {
  return serve(
      "ncclCommInitRankConfig",
      [&](const NcclFunctions& real) { return required(real.comm_init_rank_config, "ncclCommInitRankConfig")(comm, ranks, id, rank, config); },
      [&] { return create_rank(comm, ranks, id, rank, config); });
}

NcclResult pncclCommInitRankScalable(NcclComm** comm, int ranks, int rank, int id_count, NcclId* ids, NcclConfig* config) {
  return serve(
      "ncclCommInitRankScalable",
      [&](const NcclFunctions& real) { return required(real.comm_init_rank_scalable, "ncclCommInitRankScalable")(comm, ranks, rank, id_count, ids, config); },
      [&] {
        require(id_count >= 1, "no unique id: expected at least one");
        return create_rank(comm, ranks, nccl_given(ids, "commIds"), rank, config);
      });
}

NcclResult pncclCommInitAll(NcclComm** comms, int count, const int* devices) {
  return serve(
      "ncclCommInitAll", [&](const NcclFunctions& real) { return required(real.comm_init_all, "ncclCommInitAll")(comms, count, devices); },
      [&] { return create_all_ranks(comms, count, devices); });
}

NcclResult pncclCommSplit(NcclComm* comm, int color, int key, NcclComm** made, NcclConfig* config) {
  return nccl_guard("ncclCommSplit", [&]() -> NcclResult {
    if (const NcclFunctions* all = forwarding()) return required(all->comm_split, "ncclCommSplit")(comm, color, key, made, config);
    return split_rank(rank_of(comm), color, key, made, config);
  });
}

NcclResult pncclCommShrink(NcclComm* comm, int* excluded, int excluded_count, NcclComm** made, NcclConfig* config, int flags) {
  return nccl_guard("ncclCommShrink", [&]() -> NcclResult {
    if (const NcclFunctions* all = forwarding()) return required(all->comm_shrink, "ncclCommShrink")(comm, excluded, excluded_count, made, config, flags);
    return shrink_rank(rank_of(comm), excluded, excluded_count, made, config, flags);
  });
}

NcclResult pncclCommFinalize(NcclComm* comm) {
  if (comm == nullptr) return nccl_success;
  return serve_rank("ncclCommFinalize", comm, forward_to(&NcclFunctions::comm_finalize, "ncclCommFinalize"), [&](const RankPointer& rank) {
    rank->finalize();
    if (!rank->config().blocking) {
      std::thread([rank] { rank->flush(); }).detach();
      return nccl_in_progress;
    }
    rank->flush();
    rank->expect_flushed();
    return nccl_success;
  });
}

NcclResult pncclCommDestroy(NcclComm* comm) { return end_rank("ncclCommDestroy", comm, false); }

NcclResult pncclCommAbort(NcclComm* comm) { return end_rank("ncclCommAbort", comm, true); }

NcclResult pncclCommRevoke(NcclComm* comm, int flags) {
  return serve_rank("ncclCommRevoke", comm, forward_to(&NcclFunctions::comm_revoke, "ncclCommRevoke", flags), [&](const RankPointer& rank) {
    require(flags == 0, "revoke flags other than 0: expected NCCL_REVOKE_DEFAULT");
    rank->expect_ready();
    rank->revoke();
    return nccl_success;
  });
}

NcclResult pncclCommGetAsyncError(NcclComm* comm, NcclResult* error) {
  return serve_rank("ncclCommGetAsyncError", comm, forward_to(&NcclFunctions::comm_get_async_error, "ncclCommGetAsyncError", error), [&](const RankPointer& rank) {
    nccl_given(error, "asyncError") = rank->state();
    return nccl_success;
  });
}

NcclResult pncclCommCount(NcclComm* comm, int* count) {
  return serve_rank("ncclCommCount", comm, forward_to(&NcclFunctions::comm_count, "ncclCommCount", count), [&](const RankPointer& rank) {
    rank->expect_made();
    nccl_given(count, "count") = rank->size();
    return nccl_success;
  });
}

NcclResult pncclCommCuDevice(NcclComm* comm, int* device) {
  return serve_rank("ncclCommCuDevice", comm, forward_to(&NcclFunctions::comm_cu_device, "ncclCommCuDevice", device), [&](const RankPointer& rank) {
    rank->expect_made();
    nccl_given(device, "device") = rank->device();
    return nccl_success;
  });
}

NcclResult pncclCommUserRank(NcclComm* comm, int* rank_out) {
  return serve_rank("ncclCommUserRank", comm, forward_to(&NcclFunctions::comm_user_rank, "ncclCommUserRank", rank_out), [&](const RankPointer& rank) {
    rank->expect_made();
    nccl_given(rank_out, "rank") = rank->rank();
    return nccl_success;
  });
}

NcclResult pncclCommRegister(NcclComm* comm, void* data, std::size_t bytes, void** handle) {
  return serve_rank("ncclCommRegister", comm, forward_to(&NcclFunctions::comm_register, "ncclCommRegister", data, bytes, handle), [&](const RankPointer& rank) {
    // Nothing here is faster for being registered: the handle is all there is.
    require(data != nullptr && bytes > 0, "no buffer to register");
    nccl_given(handle, "handle") = nullptr;
    rank->expect_made();
    *handle = rank->add_handle();
    return nccl_success;
  });
}

NcclResult pncclCommDeregister(NcclComm* comm, void* handle) {
  return serve_rank("ncclCommDeregister", comm, forward_to(&NcclFunctions::comm_deregister, "ncclCommDeregister", handle), [&](const RankPointer& rank) {
    rank->remove_handle(handle);
    return nccl_success;
  });
}

NcclResult pncclCommWindowRegister(NcclComm* comm, void* data, std::size_t bytes, NcclWindow** window, int flags) {
  return serve_rank("ncclCommWindowRegister", comm, forward_to(&NcclFunctions::comm_window_register, "ncclCommWindowRegister", data, bytes, window, flags), [&](const RankPointer& rank) {
    require(data != nullptr && bytes > 0, "no buffer to register");
    require((flags & ~nccl_window_flags) == 0, "window flags that are not known: expected 0 or NCCL_WIN_COLL_SYMMETRIC");
    nccl_given(window, "win") = nullptr;
    rank->expect_made();
    *window = static_cast<NcclWindow*>(rank->add_handle());
    return nccl_success;
  });
}

NcclResult pncclCommWindowDeregister(NcclComm* comm, NcclWindow* window) {
  return serve_rank("ncclCommWindowDeregister", comm, forward_to(&NcclFunctions::comm_window_deregister, "ncclCommWindowDeregister", window), [&](const RankPointer& rank) {
    if (window != nullptr) rank->remove_handle(window);
    return nccl_success;
  });
}

// The usual names. Their types are the table's: the compiler refuses an alias of another type.
extern Signature<&NcclFunctions::get_unique_id> ncclGetUniqueId __attribute__((weak, alias("pncclGetUniqueId")));
extern Signature<&NcclFunctions::comm_init_rank> ncclCommInitRank __attribute__((weak, alias("pncclCommInitRank")));
extern Signature<&NcclFunctions::comm_init_rank_config> ncclCommInitRankConfig __attribute__((weak, alias("pncclCommInitRankConfig")));
extern Signature<&NcclFunctions::comm_init_rank_scalable> ncclCommInitRankScalable __attribute__((weak, alias("pncclCommInitRankScalable")));
extern Signature<&NcclFunctions::comm_init_all> ncclCommInitAll __attribute__((weak, alias("pncclCommInitAll")));
extern Signature<&NcclFunctions::comm_split> ncclCommSplit __attribute__((weak, alias("pncclCommSplit")));
extern Signature<&NcclFunctions::comm_shrink> ncclCommShrink __attribute__((weak, alias("pncclCommShrink")));
extern Signature<&NcclFunctions::comm_finalize> ncclCommFinalize __attribute__((weak, alias("pncclCommFinalize")));
extern Signature<&NcclFunctions::comm_destroy> ncclCommDestroy __attribute__((weak, alias("pncclCommDestroy")));
extern Signature<&NcclFunctions::comm_abort> ncclCommAbort __attribute__((weak, alias("pncclCommAbort")));
extern Signature<&NcclFunctions::comm_revoke> ncclCommRevoke __attribute__((weak, alias("pncclCommRevoke")));
extern Signature<&NcclFunctions::comm_get_async_error> ncclCommGetAsyncError __attribute__((weak, alias("pncclCommGetAsyncError")));
extern Signature<&NcclFunctions::comm_count> ncclCommCount __attribute__((weak, alias("pncclCommCount")));
extern Signature<&NcclFunctions::comm_cu_device> ncclCommCuDevice __attribute__((weak, alias("pncclCommCuDevice")));
extern Signature<&NcclFunctions::comm_user_rank> ncclCommUserRank __attribute__((weak, alias("pncclCommUserRank")));
extern Signature<&NcclFunctions::comm_register> ncclCommRegister __attribute__((weak, alias("pncclCommRegister")));
extern Signature<&NcclFunctions::comm_deregister> ncclCommDeregister __attribute__((weak, alias("pncclCommDeregister")));
extern Signature<&NcclFunctions::comm_window_register> ncclCommWindowRegister __attribute__((weak, alias("pncclCommWindowRegister")));
extern Signature<&NcclFunctions::comm_window_deregister> ncclCommWindowDeregister __attribute__((weak, alias("pncclCommWindowDeregister")));
}  // extern "C"
#pragma GCC visibility pop
