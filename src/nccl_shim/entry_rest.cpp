// NCCL's functions beside communicators and collectives: groups, memory, what went wrong, and the host's side of the device interface.
#include <algorithm>
#include <mutex>
#include <set>

#include "nccl_shim/entry.hpp"
#include "nccl_shim/place.hpp"

using namespace collectives;

namespace {

/// What ncclMemAlloc has given and not had back.
struct Allocations {
  std::mutex mutex;
  std::set<void*> all;
};

Allocations& allocations() {
  static auto* all = new Allocations;
  return *all;
}

NcclResult refuse_device_interface(const char* function) {
  return nccl_guard(function, []() -> NcclResult {
    throw Error(ErrorCode::invalid_usage, "libcollectives has no device interface of NCCL's; COLLECTIVES_DISABLE=1 leaves every call to NCCL");
  });
}

/// The real library, where it serves every call. What cannot say that it failed says nothing.
const NcclFunctions* forwarding_or_null() noexcept {
  try {
    return forwarding();
  } catch (const std::exception& error) {
    (void)remember_nccl_error(nccl_system_error, "NCCL", error.what());
    return nullptr;
  }
}

/// A team of this communicator's ranks; of none if there is no such communicator.
template <typename Make>
NcclTeam team_of(const char* function, NcclComm* comm, NcclTeam (*NcclFunctions::*member)(NcclComm*), Make make) {
  NcclTeam team{};
  (void)serve_rank(
      function, comm,
      [&](const NcclFunctions& real, NcclComm* theirs) {
        team = required(real.*member, function)(theirs);
        return nccl_success;
      },
      [&](const std::shared_ptr<DropInRank>& rank) {
        rank->expect_made();
        team = make(*rank);
        return nccl_success;
      });
  return team;
}

/// The rank in `comm` of a rank of a team that this rank is in.
int world_rank_of(const char* function, NcclComm* comm, NcclTeam team, int rank_in_team, int (*NcclFunctions::*member)(NcclComm*, NcclTeam, int)) {
  int found = -1;
  (void)serve_rank(
      function, comm,
      [&](const NcclFunctions& real, NcclComm* theirs) {
        found = required(real.*member, function)(theirs, team, rank_in_team);
        return nccl_success;
      },
      [&](const std::shared_ptr<DropInRank>& rank) {
        rank->expect_made();
        found = rank->rank() + (rank_in_team - team.rank) * team.stride;
        return nccl_success;
      });
  return found;
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

NcclResult pncclGetVersion(int* version) {
  return serve(
      "ncclGetVersion", [&](const NcclFunctions& real) { return real.get_version(version); },
      [&] {
        nccl_given(version, "version") = nccl_version;
        return nccl_success;
      });
}

const char* pncclGetErrorString(NcclResult result) {
  constexpr const char* texts[nccl_result_count] = {"no error",         "unhandled cuda error", "unhandled system error", "internal error",
                                                    "invalid argument", "invalid usage",        "remote process exited or there was a network error",
                                                    "NCCL operation in progress"};
  if (const NcclFunctions* all = forwarding_or_null()) return all->get_error_string(result);
  return result >= 0 && result < nccl_result_count ? texts[result] : "unknown result code";
}

const char* pncclGetLastError(NcclComm* comm) {
  if (const NcclFunctions* all = forwarding_or_null()) return all->get_last_error(comm);
  return last_nccl_error();
}

void pncclResetDebugInit() {
  if (const NcclFunctions* all = forwarding_or_null(); all != nullptr && all->reset_debug_init != nullptr) all->reset_debug_init();
}

NcclResult pncclGroupStart() {
  return serve(
      "ncclGroupStart", [&](const NcclFunctions& real) { return real.group_start(); },
      [&] {
        DropInGroup::of_this_thread().start();
        return nccl_success;
      });
}

NcclResult pncclGroupEnd() {
  return serve("ncclGroupEnd", [&](const NcclFunctions& real) { return real.group_end(); }, [&] { return DropInGroup::of_this_thread().end(); });
}

NcclResult pncclGroupSimulateEnd(NcclSimInfo* info) {
  return serve(
      "ncclGroupSimulateEnd", [&](const NcclFunctions& real) { return required(real.group_simulate_end, "ncclGroupSimulateEnd")(info); },
      [&] {
        const std::size_t size = info != nullptr ? info->size : sizeof *info;
        // It is this structure's first version, so no caller's is smaller.
        const bool known = info == nullptr || (size >= sizeof *info && size <= 4096 && info->magic == nccl_sim_info_magic);
        require(known, "the simulation's structure was not initialised: expected NCCL_SIM_INFO_INITIALIZER");
        const double us = DropInGroup::of_this_thread().simulate_end_us();
        if (info != nullptr) info->estimated_time = static_cast<float>(us);
        return nccl_success;
      });
}

NcclResult pncclMemAlloc(void** memory, std::size_t bytes) {
  return serve(
      "ncclMemAlloc", [&](const NcclFunctions& real) { return required(real.mem_alloc, "ncclMemAlloc")(memory, bytes); },
      [&] {
        void*& place = nccl_given(memory, "ptr");
        place = allocate_place(bytes);
        if (place == nullptr) return nccl_success;
        const std::lock_guard lock(allocations().mutex);
        allocations().all.insert(place);
        return nccl_success;
      });
}

NcclResult pncclMemFree(void* memory) {
  return serve(
      "ncclMemFree", [&](const NcclFunctions& real) { return required(real.mem_free, "ncclMemFree")(memory); },
      [&] {
        if (memory == nullptr) return nccl_success;
        {
          const std::lock_guard lock(allocations().mutex);
          require(allocations().all.erase(memory) == 1, "this is no memory of ncclMemAlloc, or it was freed");
        }
        free_place(memory);
        return nccl_success;
      });
}

NcclResult pncclDevCommCreate(NcclComm* comm, const void* requirements, void* made) {
  return serve_rank("ncclDevCommCreate", comm, forward_to(&NcclFunctions::dev_comm_create, "ncclDevCommCreate", requirements, made),
                    [](const std::shared_ptr<DropInRank>&) { return refuse_device_interface("ncclDevCommCreate"); });
}

NcclResult pncclDevCommDestroy(NcclComm* comm, const void* made) {
  return serve_rank("ncclDevCommDestroy", comm, forward_to(&NcclFunctions::dev_comm_destroy, "ncclDevCommDestroy", made),
                    [](const std::shared_ptr<DropInRank>&) { return refuse_device_interface("ncclDevCommDestroy"); });
}

NcclResult pncclGinBarrierCreateRequirement(NcclComm* comm, NcclTeam team, int barriers, void* handle, void* requirement) {
  return serve_rank("ncclGinBarrierCreateRequirement", comm,
                    forward_to(&NcclFunctions::gin_barrier_create_requirement, "ncclGinBarrierCreateRequirement", team, barriers, handle, requirement),
                    [](const std::shared_ptr<DropInRank>&) { return refuse_device_interface("ncclGinBarrierCreateRequirement"); });
}

int pncclLLA2ACalcSlots(int elements, int element_bytes) {
  if (const NcclFunctions* all = forwarding_or_null(); all != nullptr && all->lla2a_calc_slots != nullptr) return all->lla2a_calc_slots(elements, element_bytes);
  (void)refuse_device_interface("ncclLLA2ACalcSlots");
  return 0;
}

NcclResult pncclLLA2ACreateRequirement(int blocks, int slots, void* handle, void* requirement) {
  return serve(
      "ncclLLA2ACreateRequirement",
      [&](const NcclFunctions& real) { return required(real.lla2a_create_requirement, "ncclLLA2ACreateRequirement")(blocks, slots, handle, requirement); },
      [] { return refuse_device_interface("ncclLLA2ACreateRequirement"); });
}

NcclResult pncclLsaBarrierCreateRequirement(NcclTeam team, int barriers, void* handle, void* requirement) {
  return serve(
      "ncclLsaBarrierCreateRequirement",
      [&](const NcclFunctions& real) { return required(real.lsa_barrier_create_requirement, "ncclLsaBarrierCreateRequirement")(team, barriers, handle, requirement); },
      [] { return refuse_device_interface("ncclLsaBarrierCreateRequirement"); });
}

// All ranks are on one machine: they are one team of it, and each is alone on its rail.
NcclTeam pncclTeamWorld(NcclComm* comm) {
  return team_of("ncclTeamWorld", comm, &NcclFunctions::team_world, [](const DropInRank& rank) { return NcclTeam{rank.size(), rank.rank(), 1}; });
}

NcclTeam pncclTeamLsa(NcclComm* comm) {
  return team_of("ncclTeamLsa", comm, &NcclFunctions::team_lsa, [](const DropInRank& rank) { return NcclTeam{rank.size(), rank.rank(), 1}; });
}

NcclTeam pncclTeamRail(NcclComm* comm) {
  return team_of("ncclTeamRail", comm, &NcclFunctions::team_rail, [](const DropInRank& rank) { return NcclTeam{1, 0, rank.size()}; });
}

int pncclTeamRankToWorld(NcclComm* comm, NcclTeam team, int rank) {
  return world_rank_of("ncclTeamRankToWorld", comm, team, rank, &NcclFunctions::team_rank_to_world);
}

int pncclTeamRankToLsa(NcclComm* comm, NcclTeam team, int rank) {
  return world_rank_of("ncclTeamRankToLsa", comm, team, rank, &NcclFunctions::team_rank_to_lsa);
}

// The one that NCCL exports under this name alone.
void ncclResetDebugInitInternal() { pncclResetDebugInit(); }

// The usual names. Their types are the table's: the compiler refuses an alias of another type.
extern Signature<&NcclFunctions::get_version> ncclGetVersion __attribute__((weak, alias("pncclGetVersion")));
extern Signature<&NcclFunctions::get_error_string> ncclGetErrorString __attribute__((weak, alias("pncclGetErrorString")));
extern Signature<&NcclFunctions::get_last_error> ncclGetLastError __attribute__((weak, alias("pncclGetLastError")));
extern Signature<&NcclFunctions::reset_debug_init> ncclResetDebugInit __attribute__((weak, alias("pncclResetDebugInit")));
extern Signature<&NcclFunctions::group_start> ncclGroupStart __attribute__((weak, alias("pncclGroupStart")));
extern Signature<&NcclFunctions::group_end> ncclGroupEnd __attribute__((weak, alias("pncclGroupEnd")));
extern Signature<&NcclFunctions::group_simulate_end> ncclGroupSimulateEnd __attribute__((weak, alias("pncclGroupSimulateEnd")));
extern Signature<&NcclFunctions::mem_alloc> ncclMemAlloc __attribute__((weak, alias("pncclMemAlloc")));
extern Signature<&NcclFunctions::mem_free> ncclMemFree __attribute__((weak, alias("pncclMemFree")));
extern Signature<&NcclFunctions::dev_comm_create> ncclDevCommCreate __attribute__((weak, alias("pncclDevCommCreate")));
extern Signature<&NcclFunctions::dev_comm_destroy> ncclDevCommDestroy __attribute__((weak, alias("pncclDevCommDestroy")));
extern Signature<&NcclFunctions::gin_barrier_create_requirement> ncclGinBarrierCreateRequirement __attribute__((weak, alias("pncclGinBarrierCreateRequirement")));
extern Signature<&NcclFunctions::lla2a_calc_slots> ncclLLA2ACalcSlots __attribute__((weak, alias("pncclLLA2ACalcSlots")));
extern Signature<&NcclFunctions::lla2a_create_requirement> ncclLLA2ACreateRequirement __attribute__((weak, alias("pncclLLA2ACreateRequirement")));
extern Signature<&NcclFunctions::lsa_barrier_create_requirement> ncclLsaBarrierCreateRequirement __attribute__((weak, alias("pncclLsaBarrierCreateRequirement")));
extern Signature<&NcclFunctions::team_world> ncclTeamWorld __attribute__((weak, alias("pncclTeamWorld")));
extern Signature<&NcclFunctions::team_lsa> ncclTeamLsa __attribute__((weak, alias("pncclTeamLsa")));
extern Signature<&NcclFunctions::team_rail> ncclTeamRail __attribute__((weak, alias("pncclTeamRail")));
extern Signature<&NcclFunctions::team_rank_to_world> ncclTeamRankToWorld __attribute__((weak, alias("pncclTeamRankToWorld")));
extern Signature<&NcclFunctions::team_rank_to_lsa> ncclTeamRankToLsa __attribute__((weak, alias("pncclTeamRankToLsa")));
}  // extern "C"
#pragma GCC visibility pop
