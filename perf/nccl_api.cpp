#include "perf/nccl_api.hpp"

#include <dlfcn.h>
#include <fmt/format.h>

#include <array>
#include <collectives/error.hpp>
#include <cstdlib>

namespace perf {
namespace {

using collectives::Error;
using collectives::ErrorCode;

template <typename Function>
void look_up(void* library, const char* name, Function& function, bool needed = true) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (needed && function == nullptr) throw Error(ErrorCode::unsupported, fmt::format("{} is missing: this is not NCCL", name));
}

}  // namespace

NcclApi open_nccl(const std::string& library) {
  void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr)
    throw Error(ErrorCode::unsupported, fmt::format("cannot open NCCL: {}; --nccl-library names another file", dlerror()));
  NcclApi api{};
  look_up(handle, "ncclGetVersion", api.get_version);
  look_up(handle, "ncclGetUniqueId", api.get_unique_id);
  look_up(handle, "ncclCommInitRank", api.comm_init_rank);
  look_up(handle, "ncclCommInitRankConfig", api.comm_init_rank_config, false);
  look_up(handle, "ncclCommDestroy", api.comm_destroy);
  look_up(handle, "ncclCommAbort", api.comm_abort);
  look_up(handle, "ncclGroupStart", api.group_start);
  look_up(handle, "ncclGroupEnd", api.group_end);
  look_up(handle, "ncclAllReduce", api.all_reduce);
  look_up(handle, "ncclReduceScatter", api.reduce_scatter);
  look_up(handle, "ncclAllGather", api.all_gather);
  look_up(handle, "ncclBroadcast", api.broadcast);
  look_up(handle, "ncclReduce", api.reduce);
  look_up(handle, "ncclSend", api.send);
  look_up(handle, "ncclRecv", api.receive);
  look_up(handle, "ncclMemAlloc", api.mem_alloc, false);
  look_up(handle, "ncclMemFree", api.mem_free, false);
  look_up(handle, "ncclCommWindowRegister", api.window_register, false);
  look_up(handle, "ncclCommWindowDeregister", api.window_deregister, false);
  look_up(handle, "ncclGetErrorString", api.error_string);
  look_up(handle, "ncclGetLastError", api.last_error, false);
  return api;
}

void NcclApi::check(int result, const char* what) const {
  if (result == 0) return;
  const char* detail = last_error != nullptr ? last_error(nullptr) : nullptr;
  throw Error(ErrorCode::system,
              fmt::format("{}: {} ({})", what, error_string(result), detail != nullptr && *detail != '\0' ? detail : "no detail"));
}

std::string nccl_version_text(int version) {
  const int major = version >= 10000 ? version / 10000 : version / 1000;
  const int rest = version >= 10000 ? version % 10000 : version % 1000;
  return fmt::format("{}.{}.{}", major, rest / 100, rest % 100);
}

int nccl_type(collectives::DataType type) {
  // float32, float64, float16, bfloat16, int8, uint8, int32, uint32, int64, uint64, float8_e4m3, float8_e5m2
  constexpr std::array<int, collectives::data_type_count> numbers{7, 8, 6, 9, 0, 1, 2, 3, 4, 5, 10, 11};
  return numbers.at(static_cast<std::size_t>(type));
}

int nccl_op(collectives::ReduceOp op) {
  // sum, prod, min, max, avg: NCCL counts max before min.
  constexpr std::array<int, collectives::reduce_op_count> numbers{0, 1, 3, 2, 4};
  return numbers.at(static_cast<std::size_t>(op));
}

}  // namespace perf
