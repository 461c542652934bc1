#pragma once

#include <collectives/types.hpp>
#include <climits>
#include <cstddef>

// The binary interface of NCCL 2.28.9, declared anew: numbers, structures and functions under names of our own, so that this
// builds without NCCL's header. Where that header is installed, tests/nccl_abi.cpp holds both against each other.
namespace collectives {

/// What every function returns. Enumerations of callers are taken as int: any number may come.
enum NcclResult : int {
  nccl_success = 0,
  nccl_unhandled_cuda_error = 1,
  nccl_system_error = 2,
  nccl_internal_error = 3,
  nccl_invalid_argument = 4,
  nccl_invalid_usage = 5,
  nccl_remote_error = 6,
  nccl_in_progress = 7,
};
inline constexpr int nccl_result_count = 8;

inline constexpr int nccl_version = 22809;
inline constexpr int nccl_type_count = 12;
inline constexpr int nccl_op_count = 5;
inline constexpr int nccl_scalar_on_device = 0;
inline constexpr int nccl_scalar_on_host = 1;
inline constexpr int nccl_undefined = INT_MIN;
inline constexpr int nccl_no_color = -1;
inline constexpr int nccl_window_flags = 0x01;  ///< all that are known
inline constexpr int nccl_shrink_default = 0;
inline constexpr int nccl_shrink_abort = 1;
inline constexpr unsigned nccl_config_magic = 0xcafebeef;
inline constexpr unsigned nccl_sim_info_magic = 0x74685283;

/// A communicator's handle and a window's: whose they are, the library that made them knows.
struct NcclComm;
struct NcclWindow;

struct NcclId {
  char bytes[128];
};

struct NcclConfig {
  std::size_t size;
  unsigned magic;
  unsigned version;
  int blocking;
  int cga_cluster_size;
  int min_ctas;
  int max_ctas;
  const char* net_name;
  int split_share;
  int traffic_class;
  const char* comm_name;
  int collnet_enable;
  int cta_policy;
  int shrink_share;
  int nvls_ctas;
  int channels_per_net_peer;
  int nvlink_centric_sched;
};

struct NcclSimInfo {
  std::size_t size;
  unsigned magic;
  unsigned version;
  float estimated_time;
};

/// Some ranks, evenly spaced: the device interface's only structure that travels by value.
struct NcclTeam {
  int ranks;
  int rank;
  int stride;
};

/// Every function of the library. A null member: the opened library has no such function.
struct NcclFunctions {
  NcclResult (*all_gather)(const void* in, void* out, std::size_t count, int type, NcclComm* comm, Stream stream);
  NcclResult (*all_reduce)(const void* in, void* out, std::size_t count, int type, int op, NcclComm* comm, Stream stream);
  NcclResult (*all_to_all)(const void* in, void* out, std::size_t count, int type, NcclComm* comm, Stream stream);
  NcclResult (*bcast)(void* data, std::size_t count, int type, int root, NcclComm* comm, Stream stream);
  NcclResult (*broadcast)(const void* in, void* out, std::size_t count, int type, int root, NcclComm* comm, Stream stream);
  NcclResult (*comm_abort)(NcclComm* comm);
  NcclResult (*comm_count)(NcclComm* comm, int* count);
  NcclResult (*comm_cu_device)(NcclComm* comm, int* device);
  NcclResult (*comm_deregister)(NcclComm* comm, void* handle);
  NcclResult (*comm_destroy)(NcclComm* comm);
  NcclResult (*comm_finalize)(NcclComm* comm);
  NcclResult (*comm_get_async_error)(NcclComm* comm, NcclResult* error);
  NcclResult (*comm_init_all)(NcclComm** comms, int count, const int* devices);
  NcclResult (*comm_init_rank)(NcclComm** comm, int ranks, NcclId id, int rank);
  NcclResult (*comm_init_rank_config)(NcclComm** comm, int ranks, NcclId id, int rank, NcclConfig* config);
  NcclResult (*comm_init_rank_scalable)(NcclComm** comm, int ranks, int rank, int id_count, NcclId* ids, NcclConfig* config);
  NcclResult (*comm_register)(NcclComm* comm, void* data, std::size_t bytes, void** handle);
  NcclResult (*comm_revoke)(NcclComm* comm, int flags);
  NcclResult (*comm_shrink)(NcclComm* comm, int* excluded, int excluded_count, NcclComm** made, NcclConfig* config, int flags);
  NcclResult (*comm_split)(NcclComm* comm, int color, int key, NcclComm** made, NcclConfig* config);
  NcclResult (*comm_user_rank)(NcclComm* comm, int* rank);
  NcclResult (*comm_window_deregister)(NcclComm* comm, NcclWindow* window);
  NcclResult (*comm_window_register)(NcclComm* comm, void* data, std::size_t bytes, NcclWindow** window, int flags);
  NcclResult (*gather)(const void* in, void* out, std::size_t count, int type, int root, NcclComm* comm, Stream stream);
  const char* (*get_error_string)(NcclResult result);
  const char* (*get_last_error)(NcclComm* comm);
  NcclResult (*get_unique_id)(NcclId* id);
  NcclResult (*get_version)(int* version);
  NcclResult (*group_end)();
  NcclResult (*group_simulate_end)(NcclSimInfo* info);
  NcclResult (*group_start)();
  NcclResult (*mem_alloc)(void** memory, std::size_t bytes);
  NcclResult (*mem_free)(void* memory);
  NcclResult (*recv)(void* out, std::size_t count, int type, int peer, NcclComm* comm, Stream stream);
  NcclResult (*red_op_create_pre_mul_sum)(int* op, void* scalar, int type, int residence, NcclComm* comm);
  NcclResult (*red_op_destroy)(int op, NcclComm* comm);
  NcclResult (*reduce)(const void* in, void* out, std::size_t count, int type, int op, int root, NcclComm* comm, Stream stream);
  NcclResult (*reduce_scatter)(const void* in, void* out, std::size_t count, int type, int op, NcclComm* comm, Stream stream);
  void (*reset_debug_init)();
  NcclResult (*scatter)(const void* in, void* out, std::size_t count, int type, int root, NcclComm* comm, Stream stream);
  NcclResult (*send)(const void* in, std::size_t count, int type, int peer, NcclComm* comm, Stream stream);
  // The host's side of the device interface. What its structures hold is the real library's business.
  NcclResult (*dev_comm_create)(NcclComm* comm, const void* requirements, void* made);
  NcclResult (*dev_comm_destroy)(NcclComm* comm, const void* made);
  NcclResult (*gin_barrier_create_requirement)(NcclComm* comm, NcclTeam team, int barriers, void* handle, void* requirement);
  int (*lla2a_calc_slots)(int elements, int element_bytes);
  NcclResult (*lla2a_create_requirement)(int blocks, int slots, void* handle, void* requirement);
  NcclResult (*lsa_barrier_create_requirement)(NcclTeam team, int barriers, void* handle, void* requirement);
  NcclTeam (*team_lsa)(NcclComm* comm);
  NcclTeam (*team_rail)(NcclComm* comm);
  int (*team_rank_to_lsa)(NcclComm* comm, NcclTeam team, int rank);
  int (*team_rank_to_world)(NcclComm* comm, NcclTeam team, int rank);
  NcclTeam (*team_world)(NcclComm* comm);
  void (*reset_debug_init_internal)();
};

/// The functions of an opened libnccl.so.2.
NcclFunctions load_nccl_functions(void* library);

}  // namespace collectives
