// NCCL, opened when it is asked for. Declared here as far as it is used, so that nothing of it is needed to build.
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <atomic>

#include "join.hpp"

namespace transformer {
namespace {

using collectives::Error;
using collectives::ErrorCode;

struct NcclId {
  char internal[128];
};
using NcclComm = struct NcclCommOpaque*;

constexpr int nccl_bfloat16 = 9, nccl_sum = 0;

struct Nccl {
  int (*get_unique_id)(NcclId* id);
  int (*comm_init_rank)(NcclComm* comm, int ranks, NcclId id, int rank);
  int (*comm_abort)(NcclComm comm);
  int (*group_start)();
  int (*group_end)();
  int (*all_reduce)(const void* in, void* out, std::size_t count, int type, int op, NcclComm comm, collectives::Stream stream);
  const char* (*error_string)(int result);

  void check(int result, const char* what) const {
    if (result != 0) throw Error(ErrorCode::system, std::string(what) + ": " + error_string(result));
  }
};

void check_cuda(cudaError_t result, const char* what) {
  if (result != cudaSuccess) throw Error(ErrorCode::device, std::string(what) + ": " + cudaGetErrorString(result));
}

template <typename Function>
void look_up(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr) throw Error(ErrorCode::unsupported, std::string(name) + " is missing: this is not NCCL");
}

/// The library stays open.
Nccl open(const std::string& library) {
  void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr)
    throw Error(ErrorCode::unsupported, std::string("cannot open NCCL: ") + dlerror() + "; --nccl-library names another file");
  Nccl nccl{};
  look_up(handle, "ncclGetUniqueId", nccl.get_unique_id);
  look_up(handle, "ncclCommInitRank", nccl.comm_init_rank);
  look_up(handle, "ncclCommAbort", nccl.comm_abort);
  look_up(handle, "ncclGroupStart", nccl.group_start);
  look_up(handle, "ncclGroupEnd", nccl.group_end);
  look_up(handle, "ncclAllReduce", nccl.all_reduce);
  look_up(handle, "ncclGetErrorString", nccl.error_string);
  return nccl;
}

class ByNccl final : public Join {
 public:
  ByNccl(const Nccl& nccl, NcclComm comm) : nccl_(nccl), comm_(comm) {}
  // Aborted, not destroyed: that is not collective, and nothing is under way any more.
  ~ByNccl() override { abort(); }

  void all_reduce(const Bf16* in, Bf16* out, std::size_t count, collectives::Stream stream) override {
    nccl_.check(nccl_.all_reduce(in, out, count, nccl_bfloat16, nccl_sum, comm_, stream), "ncclAllReduce");
  }

  void wait(collectives::Stream stream) override { check_cuda(cudaStreamSynchronize(stream), "waiting for NCCL"); }

  void abort() override {
    if (NcclComm comm = comm_.exchange(nullptr)) nccl_.comm_abort(comm);
  }

 private:
  const Nccl nccl_;
  std::atomic<NcclComm> comm_;
};

}  // namespace

std::vector<std::unique_ptr<Join>> join_by_nccl(const std::string& library, const std::vector<int>& devices) {
  const Nccl nccl = open(library);
  NcclId id{};
  nccl.check(nccl.get_unique_id(&id), "ncclGetUniqueId");
  std::vector<NcclComm> comms(devices.size());
  nccl.check(nccl.group_start(), "ncclGroupStart");
  for (std::size_t rank = 0; rank < devices.size(); ++rank) {
    check_cuda(cudaSetDevice(devices[rank]), "cudaSetDevice");
    nccl.check(nccl.comm_init_rank(&comms[rank], static_cast<int>(devices.size()), id, static_cast<int>(rank)), "ncclCommInitRank");
  }
  nccl.check(nccl.group_end(), "ncclGroupEnd");
  std::vector<std::unique_ptr<Join>> joins;
  for (NcclComm comm : comms) joins.push_back(std::make_unique<ByNccl>(nccl, comm));
  return joins;
}

}  // namespace transformer
