#include <cstring>

#include "base/cuda.hpp"
#include "base/require.hpp"
#include "memory/committed_pool.hpp"
#include "memory/device_memory.hpp"
#include "memory/kinds.hpp"

namespace collectives {
namespace {

/// The driver cuts smaller allocations from a block of this size, and CUDA IPC exports whole blocks.
constexpr std::size_t legacy_granule = std::size_t{2} << 20;

static_assert(sizeof(cudaIpcMemHandle_t) == sizeof(PoolTicket::ipc_handle));

struct CudaFree {
  // Errors do not count: a process that is leaving may have lost its driver already.
  void operator()(void* memory) const {
    if (cudaFree(memory) != cudaSuccess) (void)cudaGetLastError();
  }
};

/// One cudaMalloc. It cannot grow, for a second one would lie elsewhere, so it has what it begins with and no more.
class LegacyPool final : public CommittedPool {
 public:
  LegacyPool(int device, std::size_t bound, std::size_t commit)
      : CommittedPool(PoolKind::device_legacy, device, bound, legacy_granule, commit), device_(device) {
    this->commit(commit);
  }

  std::byte* base() const override { return static_cast<std::byte*>(memory_.get()); }

  PoolTicket ticket() const override {
    const DeviceScope scope(device_);
    cudaIpcMemHandle_t handle{};
    cuda_check(cudaIpcGetMemHandle(&handle, memory_.get()));
    PoolTicket ticket{.kind = PoolKind::device_legacy, .device = device_, .bytes = committed()};
    std::memcpy(ticket.ipc_handle, &handle, sizeof handle);
    return ticket;
  }

  FileDescriptor export_descriptor() const override { return {}; }

  void grant(int device) override {
    if (device == device_) return;
    require_peer_access(device, device_);
    const DeviceScope scope(device);
    const auto result = cudaDeviceEnablePeerAccess(device_, 0);
    if (result == cudaErrorPeerAccessAlreadyEnabled)
      (void)cudaGetLastError();
    else
      cuda_check(result);
  }

 private:
  void back(std::size_t offset, std::size_t bytes) override {
    ensure(offset == 0 && !memory_, "a legacy pool has one part");
    const DeviceScope scope(device_);
    void* memory = nullptr;
    cuda_check(cudaMalloc(&memory, bytes));
    memory_.reset(memory);
    zero_device_memory(device_, base(), bytes);
  }

  int device_;
  std::unique_ptr<void, CudaFree> memory_;
};

class LegacyMapping final : public PeerMapping {
 public:
  LegacyMapping(const PoolTicket& ticket, int device) : device_(device) {
    const DeviceScope scope(device);
    cudaIpcMemHandle_t handle{};
    std::memcpy(&handle, ticket.ipc_handle, sizeof handle);
    cuda_check(cudaIpcOpenMemHandle(&base_, handle, cudaIpcMemLazyEnablePeerAccess));
  }
  ~LegacyMapping() override {
    // As DeviceScope does, but errors do not count: a process that is leaving may have lost its driver already.
    int before = 0;
    const bool switched = cudaGetDevice(&before) == cudaSuccess && cudaSetDevice(device_) == cudaSuccess;
    if (cudaIpcCloseMemHandle(base_) != cudaSuccess) (void)cudaGetLastError();
    if (switched) (void)cudaSetDevice(before);
  }
  std::byte* base() const override { return static_cast<std::byte*>(base_); }

 private:
  int device_;
  void* base_ = nullptr;
};

}  // namespace

std::unique_ptr<Pool> make_legacy_pool(int device, std::size_t bound, std::size_t commit) {
  return std::make_unique<LegacyPool>(device, bound, commit);
}

std::unique_ptr<PeerMapping> map_legacy_peer(const PoolTicket& ticket, int device) {
  return std::make_unique<LegacyMapping>(ticket, device);
}

}  // namespace collectives
