// Our declarations of NCCL's binary interface against NCCL's own. Compiled where nccl.h is found; there is nothing to run.
#include <nccl.h>
#include <nccl_device/core.h>
#include <nccl_device/gin_barrier.h>
#include <nccl_device/ll_a2a.h>
#include <nccl_device/lsa_barrier.h>

#include <cstddef>
#include <type_traits>

#include "nccl_shim/abi.hpp"

using namespace collectives;

namespace {

template <typename Theirs>
constexpr bool same(Theirs theirs, long long ours) {
  return static_cast<long long>(theirs) == ours;
}

/// Do both travel alike? Pointers are pointers, enumerations are ints, structures of one size are one.
template <typename Ours, typename Theirs>
constexpr bool is_alike() {
  if constexpr (std::is_void_v<Ours> || std::is_void_v<Theirs>) return std::is_void_v<Ours> && std::is_void_v<Theirs>;
  else if constexpr (std::is_pointer_v<Ours> || std::is_pointer_v<Theirs>) return std::is_pointer_v<Ours> && std::is_pointer_v<Theirs>;
  else if constexpr (std::is_class_v<Ours>) return std::is_class_v<Theirs> && sizeof(Ours) == sizeof(Theirs) && alignof(Ours) == alignof(Theirs);
  else if constexpr (std::is_floating_point_v<Ours> || std::is_floating_point_v<Theirs>) return std::is_same_v<Ours, Theirs>;
  else return !std::is_class_v<Theirs> && sizeof(Ours) == sizeof(Theirs);
}

template <typename Ours, typename Theirs>
struct Signatures : std::false_type {};
template <typename Our, typename... Ours, typename Their, typename... Theirs>
  requires(sizeof...(Ours) == sizeof...(Theirs))
struct Signatures<Our (*)(Ours...), Their (*)(Theirs...)> : std::bool_constant<is_alike<Our, Their>() && (is_alike<Ours, Theirs>() && ...)> {};

/// The function of this type among those of one name; does not compile if there is none.
template <typename Pointer>
struct OneOf {
  template <Pointer>
  using in = std::remove_pointer_t<Pointer>;
};

template <auto member>
struct MemberOf;
template <typename Function, Function NcclFunctions::*member>
struct MemberOf<member> {
  using type = Function;
};
template <auto member, typename Theirs>
constexpr bool fits = Signatures<typename MemberOf<member>::type, Theirs*>::value;

// Negative controls: what differs is told apart.
static_assert(!Signatures<int (*)(int), int (*)(void*)>::value && !Signatures<int (*)(int), int (*)(int, int)>::value);
static_assert(!Signatures<int (*)(int), int (*)(std::size_t)>::value && !Signatures<int (*)(NcclId), int (*)(NcclTeam)>::value);
static_assert(!Signatures<void (*)(), int (*)()>::value && !Signatures<int (*)(float), int (*)(int)>::value);

}  // namespace

static_assert(NCCL_VERSION_CODE == nccl_version, "this header is of another NCCL than the one that is stood in for");

static_assert(same(ncclSuccess, nccl_success) && same(ncclUnhandledCudaError, nccl_unhandled_cuda_error) && same(ncclSystemError, nccl_system_error) &&
              same(ncclInternalError, nccl_internal_error) && same(ncclInvalidArgument, nccl_invalid_argument) && same(ncclInvalidUsage, nccl_invalid_usage) &&
              same(ncclRemoteError, nccl_remote_error) && same(ncclInProgress, nccl_in_progress) && same(ncclNumResults, nccl_result_count));
// The tables in calls.cpp go by these.
static_assert(same(ncclInt8, 0) && same(ncclUint8, 1) && same(ncclInt32, 2) && same(ncclUint32, 3) && same(ncclInt64, 4) && same(ncclUint64, 5) &&
              same(ncclFloat16, 6) && same(ncclFloat32, 7) && same(ncclFloat64, 8) && same(ncclBfloat16, 9) && same(ncclFloat8e4m3, 10) &&
              same(ncclFloat8e5m2, 11) && same(ncclNumTypes, nccl_type_count));
static_assert(same(ncclSum, 0) && same(ncclProd, 1) && same(ncclMax, 2) && same(ncclMin, 3) && same(ncclAvg, 4) && same(ncclNumOps, nccl_op_count) &&
              same(ncclMaxRedOp, INT_MAX));
static_assert(same(ncclScalarDevice, nccl_scalar_on_device) && same(ncclScalarHostImmediate, nccl_scalar_on_host));
static_assert(NCCL_CONFIG_UNDEF_INT == nccl_undefined && NCCL_SPLIT_NOCOLOR == nccl_no_color && (NCCL_WIN_DEFAULT | NCCL_WIN_COLL_SYMMETRIC) == nccl_window_flags &&
              NCCL_SHRINK_DEFAULT == nccl_shrink_default && NCCL_SHRINK_ABORT == nccl_shrink_abort && NCCL_REVOKE_DEFAULT == 0);
static_assert(ncclConfig_t NCCL_CONFIG_INITIALIZER.magic == nccl_config_magic && ncclSimInfo_t NCCL_SIM_INFO_INITIALIZER.magic == nccl_sim_info_magic);

static_assert(sizeof(NcclId) == sizeof(ncclUniqueId) && sizeof(NcclId) == NCCL_UNIQUE_ID_BYTES && alignof(NcclId) == alignof(ncclUniqueId));
static_assert(sizeof(NcclConfig) == sizeof(ncclConfig_t) && alignof(NcclConfig) == alignof(ncclConfig_t));
static_assert(offsetof(NcclConfig, size) == offsetof(ncclConfig_t, size) && offsetof(NcclConfig, magic) == offsetof(ncclConfig_t, magic) &&
              offsetof(NcclConfig, version) == offsetof(ncclConfig_t, version) && offsetof(NcclConfig, blocking) == offsetof(ncclConfig_t, blocking) &&
              offsetof(NcclConfig, cga_cluster_size) == offsetof(ncclConfig_t, cgaClusterSize) && offsetof(NcclConfig, min_ctas) == offsetof(ncclConfig_t, minCTAs) &&
              offsetof(NcclConfig, max_ctas) == offsetof(ncclConfig_t, maxCTAs) && offsetof(NcclConfig, net_name) == offsetof(ncclConfig_t, netName) &&
              offsetof(NcclConfig, split_share) == offsetof(ncclConfig_t, splitShare) && offsetof(NcclConfig, traffic_class) == offsetof(ncclConfig_t, trafficClass) &&
              offsetof(NcclConfig, comm_name) == offsetof(ncclConfig_t, commName) && offsetof(NcclConfig, collnet_enable) == offsetof(ncclConfig_t, collnetEnable) &&
              offsetof(NcclConfig, cta_policy) == offsetof(ncclConfig_t, CTAPolicy) && offsetof(NcclConfig, shrink_share) == offsetof(ncclConfig_t, shrinkShare) &&
              offsetof(NcclConfig, nvls_ctas) == offsetof(ncclConfig_t, nvlsCTAs) &&
              offsetof(NcclConfig, channels_per_net_peer) == offsetof(ncclConfig_t, nChannelsPerNetPeer) &&
              offsetof(NcclConfig, nvlink_centric_sched) == offsetof(ncclConfig_t, nvlinkCentricSched));
static_assert(sizeof(NcclSimInfo) == sizeof(ncclSimInfo_t) && offsetof(NcclSimInfo, size) == offsetof(ncclSimInfo_t, size) &&
              offsetof(NcclSimInfo, magic) == offsetof(ncclSimInfo_t, magic) && offsetof(NcclSimInfo, version) == offsetof(ncclSimInfo_t, version) &&
              offsetof(NcclSimInfo, estimated_time) == offsetof(ncclSimInfo_t, estimatedTime));
static_assert(sizeof(NcclTeam) == sizeof(ncclTeam) && offsetof(NcclTeam, ranks) == offsetof(ncclTeam, nRanks) && offsetof(NcclTeam, rank) == offsetof(ncclTeam, rank) &&
              offsetof(NcclTeam, stride) == offsetof(ncclTeam, stride));

static_assert(fits<&NcclFunctions::all_gather, decltype(ncclAllGather)> && fits<&NcclFunctions::all_reduce, decltype(ncclAllReduce)> &&
              fits<&NcclFunctions::all_to_all, decltype(ncclAlltoAll)> && fits<&NcclFunctions::bcast, decltype(ncclBcast)> &&
              fits<&NcclFunctions::broadcast, decltype(ncclBroadcast)> && fits<&NcclFunctions::gather, decltype(ncclGather)> &&
              fits<&NcclFunctions::recv, decltype(ncclRecv)> && fits<&NcclFunctions::reduce, decltype(ncclReduce)> &&
              fits<&NcclFunctions::reduce_scatter, decltype(ncclReduceScatter)> && fits<&NcclFunctions::scatter, decltype(ncclScatter)> &&
              fits<&NcclFunctions::send, decltype(ncclSend)> && fits<&NcclFunctions::red_op_create_pre_mul_sum, decltype(ncclRedOpCreatePreMulSum)> &&
              fits<&NcclFunctions::red_op_destroy, decltype(ncclRedOpDestroy)>);
static_assert(fits<&NcclFunctions::comm_abort, decltype(ncclCommAbort)> && fits<&NcclFunctions::comm_count, decltype(ncclCommCount)> &&
              fits<&NcclFunctions::comm_cu_device, decltype(ncclCommCuDevice)> && fits<&NcclFunctions::comm_deregister, decltype(ncclCommDeregister)> &&
              fits<&NcclFunctions::comm_destroy, decltype(ncclCommDestroy)> && fits<&NcclFunctions::comm_finalize, decltype(ncclCommFinalize)> &&
              fits<&NcclFunctions::comm_get_async_error, decltype(ncclCommGetAsyncError)> && fits<&NcclFunctions::comm_init_all, decltype(ncclCommInitAll)> &&
              fits<&NcclFunctions::comm_init_rank, decltype(ncclCommInitRank)> && fits<&NcclFunctions::comm_init_rank_config, decltype(ncclCommInitRankConfig)> &&
              fits<&NcclFunctions::comm_init_rank_scalable, decltype(ncclCommInitRankScalable)> && fits<&NcclFunctions::comm_register, decltype(ncclCommRegister)> &&
              fits<&NcclFunctions::comm_revoke, decltype(ncclCommRevoke)> && fits<&NcclFunctions::comm_shrink, decltype(ncclCommShrink)> &&
              fits<&NcclFunctions::comm_split, decltype(ncclCommSplit)> && fits<&NcclFunctions::comm_user_rank, decltype(ncclCommUserRank)> &&
              fits<&NcclFunctions::comm_window_deregister, decltype(ncclCommWindowDeregister)> &&
              fits<&NcclFunctions::comm_window_register, decltype(ncclCommWindowRegister)>);
static_assert(fits<&NcclFunctions::get_error_string, decltype(ncclGetErrorString)> && fits<&NcclFunctions::get_last_error, decltype(ncclGetLastError)> &&
              fits<&NcclFunctions::get_unique_id, decltype(ncclGetUniqueId)> && fits<&NcclFunctions::get_version, decltype(ncclGetVersion)> &&
              fits<&NcclFunctions::group_end, decltype(ncclGroupEnd)> && fits<&NcclFunctions::group_simulate_end, decltype(ncclGroupSimulateEnd)> &&
              fits<&NcclFunctions::group_start, decltype(ncclGroupStart)> && fits<&NcclFunctions::mem_alloc, decltype(ncclMemAlloc)> &&
              fits<&NcclFunctions::mem_free, decltype(ncclMemFree)> && fits<&NcclFunctions::reset_debug_init, decltype(ncclResetDebugInit)>);
static_assert(fits<&NcclFunctions::dev_comm_create, decltype(ncclDevCommCreate)> && fits<&NcclFunctions::dev_comm_destroy, decltype(ncclDevCommDestroy)> &&
              fits<&NcclFunctions::gin_barrier_create_requirement, decltype(ncclGinBarrierCreateRequirement)> &&
              fits<&NcclFunctions::lla2a_calc_slots, decltype(ncclLLA2ACalcSlots)> &&
              fits<&NcclFunctions::lla2a_create_requirement, decltype(ncclLLA2ACreateRequirement)> &&
              fits<&NcclFunctions::lsa_barrier_create_requirement, decltype(ncclLsaBarrierCreateRequirement)>);
// These have namesakes for device code.
static_assert(fits<&NcclFunctions::team_lsa, OneOf<ncclTeam_t (*)(ncclComm_t)>::in<ncclTeamLsa>> &&
              fits<&NcclFunctions::team_rail, OneOf<ncclTeam_t (*)(ncclComm_t)>::in<ncclTeamRail>> &&
              fits<&NcclFunctions::team_world, OneOf<ncclTeam_t (*)(ncclComm_t)>::in<ncclTeamWorld>> &&
              fits<&NcclFunctions::team_rank_to_lsa, OneOf<int (*)(ncclComm_t, ncclTeam_t, int)>::in<ncclTeamRankToLsa>> &&
              fits<&NcclFunctions::team_rank_to_world, OneOf<int (*)(ncclComm_t, ncclTeam_t, int)>::in<ncclTeamRankToWorld>>);
