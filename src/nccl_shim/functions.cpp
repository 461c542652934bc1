#include <dlfcn.h>

#include <type_traits>

#include "nccl_shim/abi.hpp"

namespace collectives {

NcclFunctions load_nccl_functions(void* library) {
  NcclFunctions all{};
  const auto load = [library](auto& function, const char* name) { function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(::dlsym(library, name)); };
  load(all.all_gather, "ncclAllGather");
  load(all.all_reduce, "ncclAllReduce");
  load(all.all_to_all, "ncclAlltoAll");
  load(all.bcast, "ncclBcast");
  load(all.broadcast, "ncclBroadcast");
  load(all.comm_abort, "ncclCommAbort");
  load(all.comm_count, "ncclCommCount");
  load(all.comm_cu_device, "ncclCommCuDevice");
  load(all.comm_deregister, "ncclCommDeregister");
  load(all.comm_destroy, "ncclCommDestroy");
  load(all.comm_finalize, "ncclCommFinalize");
  load(all.comm_get_async_error, "ncclCommGetAsyncError");
  load(all.comm_init_all, "ncclCommInitAll");
  load(all.comm_init_rank, "ncclCommInitRank");
  load(all.comm_init_rank_config, "ncclCommInitRankConfig");
  load(all.comm_init_rank_scalable, "ncclCommInitRankScalable");
  load(all.comm_register, "ncclCommRegister");
  load(all.comm_revoke, "ncclCommRevoke");
  load(all.comm_shrink, "ncclCommShrink");
  load(all.comm_split, "ncclCommSplit");
  load(all.comm_user_rank, "ncclCommUserRank");
  load(all.comm_window_deregister, "ncclCommWindowDeregister");
  load(all.comm_window_register, "ncclCommWindowRegister");
  load(all.gather, "ncclGather");
  load(all.get_error_string, "ncclGetErrorString");
  load(all.get_last_error, "ncclGetLastError");
  load(all.get_unique_id, "ncclGetUniqueId");
  load(all.get_version, "ncclGetVersion");
  load(all.group_end, "ncclGroupEnd");
  load(all.group_simulate_end, "ncclGroupSimulateEnd");
  load(all.group_start, "ncclGroupStart");
  load(all.mem_alloc, "ncclMemAlloc");
  load(all.mem_free, "ncclMemFree");
  load(all.recv, "ncclRecv");
  load(all.red_op_create_pre_mul_sum, "ncclRedOpCreatePreMulSum");
  load(all.red_op_destroy, "ncclRedOpDestroy");
  load(all.reduce, "ncclReduce");
  load(all.reduce_scatter, "ncclReduceScatter");
  load(all.reset_debug_init, "ncclResetDebugInit");
  load(all.scatter, "ncclScatter");
  load(all.send, "ncclSend");
  load(all.dev_comm_create, "ncclDevCommCreate");
  load(all.dev_comm_destroy, "ncclDevCommDestroy");
  load(all.gin_barrier_create_requirement, "ncclGinBarrierCreateRequirement");
  load(all.lla2a_calc_slots, "ncclLLA2ACalcSlots");
  load(all.lla2a_create_requirement, "ncclLLA2ACreateRequirement");
  load(all.lsa_barrier_create_requirement, "ncclLsaBarrierCreateRequirement");
  load(all.team_lsa, "ncclTeamLsa");
  load(all.team_rail, "ncclTeamRail");
  load(all.team_rank_to_lsa, "ncclTeamRankToLsa");
  load(all.team_rank_to_world, "ncclTeamRankToWorld");
  load(all.team_world, "ncclTeamWorld");
  load(all.reset_debug_init_internal, "ncclResetDebugInitInternal");
  return all;
}

}  // namespace collectives
