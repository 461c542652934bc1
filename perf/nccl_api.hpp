#pragma once

#include <climits>
#include <collectives/types.hpp>
#include <cstddef>
#include <string>

namespace perf {

// NCCL's C interface as far as it is compared with, declared here so that nothing of it is needed to build.
struct NcclId {
  char internal[128];
};
/// A communicator's configuration as of 2.18, which later versions read too. INT_MIN leaves a figure to NCCL.
struct NcclConfig {
  std::size_t size = sizeof(NcclConfig);
  unsigned magic = 0xcafebeef;
  unsigned version = 21800;
  int blocking = INT_MIN;
  int cluster_size = INT_MIN;
  int min_ctas = INT_MIN;
  int max_ctas = INT_MIN;
  const char* net_name = nullptr;
  int split_share = INT_MIN;
};
using NcclComm = struct NcclCommOpaque*;
using NcclWindow = struct NcclWindowOpaque*;

inline constexpr int nccl_window_symmetric = 1;
/// Windows begin and end at multiples of this.
inline constexpr std::size_t nccl_window_alignment = 4096;

/// NCCL's functions out of a library that is opened when it is asked for.
struct NcclApi {
  int (*get_version)(int* version);
  int (*get_unique_id)(NcclId* id);
  int (*comm_init_rank)(NcclComm* comm, int ranks, NcclId id, int rank);
  int (*comm_init_rank_config)(NcclComm* comm, int ranks, NcclId id, int rank, NcclConfig* config);  ///< null before 2.14
  int (*comm_destroy)(NcclComm comm);
  int (*comm_abort)(NcclComm comm);
  int (*group_start)();
  int (*group_end)();
  int (*all_reduce)(const void* in, void* out, std::size_t count, int type, int op, NcclComm comm, collectives::Stream stream);
  int (*reduce_scatter)(const void* in, void* out, std::size_t count, int type, int op, NcclComm comm, collectives::Stream stream);
  int (*all_gather)(const void* in, void* out, std::size_t count, int type, NcclComm comm, collectives::Stream stream);
  int (*broadcast)(const void* in, void* out, std::size_t count, int type, int root, NcclComm comm, collectives::Stream stream);
  int (*reduce)(const void* in, void* out, std::size_t count, int type, int op, int root, NcclComm comm, collectives::Stream stream);
  int (*send)(const void* in, std::size_t count, int type, int peer, NcclComm comm, collectives::Stream stream);
  int (*receive)(void* out, std::size_t count, int type, int peer, NcclComm comm, collectives::Stream stream);
  int (*mem_alloc)(void** memory, std::size_t bytes);                                                     ///< null before 2.19
  int (*mem_free)(void* memory);                                                                          ///< null before 2.19
  int (*window_register)(NcclComm comm, void* memory, std::size_t bytes, NcclWindow* window, int flags);  ///< null before 2.27
  int (*window_deregister)(NcclComm comm, NcclWindow window);                                             ///< null before 2.27
  const char* (*error_string)(int result);
  const char* (*last_error)(NcclComm comm);

  /// Throws Error(system) with NCCL's words unless `result` is success.
  void check(int result, const char* what) const;
};

/// Opens a library and looks up all functions. Throws Error(unsupported) naming what is missing. The library stays open.
NcclApi open_nccl(const std::string& library);

/// 2.28.3 for 22803.
std::string nccl_version_text(int version);

/// NCCL's numbers for our types and operations.
int nccl_type(collectives::DataType type);
int nccl_op(collectives::ReduceOp op);

}  // namespace perf
