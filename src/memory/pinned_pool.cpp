#include <fmt/format.h>

#include "base/cuda.hpp"
#include "base/require.hpp"
#include "memory/host_pool.hpp"
#include "memory/kinds.hpp"
#include "memory/rollback.hpp"

namespace collectives {
namespace {

/// GPUs must see pinned memory at the address the host has for it: kernels get one pointer for either.
void check_device_address(std::byte* host, int device) {
  const DeviceScope scope(device);
  void* seen = nullptr;
  cuda_check(cudaHostGetDevicePointer(&seen, host, 0));
  require(
      seen == host, [&] { return fmt::format("device {} sees pinned memory at another address than the host does", device); },
      ErrorCode::unsupported);
}

/// Errors do not count: a process that is leaving may have lost its driver already.
void unpin(std::byte* base) {
  if (cudaHostUnregister(base) != cudaSuccess) (void)cudaGetLastError();
}

/// Pinned for every device of the process.
void pin(std::byte* base, std::size_t bytes, int device) {
  const DeviceScope scope(device);
  // While a stream is being captured as well: no work of any stream depends on this.
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  cuda_check(cudaThreadExchangeStreamCaptureMode(&mode));
  const Rollback as_before([&] { (void)cudaThreadExchangeStreamCaptureMode(&mode); });
  cuda_check(cudaHostRegister(base, bytes, cudaHostRegisterMapped | cudaHostRegisterPortable));
  Rollback rollback([&] { unpin(base); });
  check_device_address(base, device);
  rollback.dismiss();
}

/// Registered once. It cannot grow: CUDA refuses copies that cross from one registration into another, and an allocation could.
class PinnedPool final : public HostPool {
 public:
  PinnedPool(int device, std::size_t bound, std::size_t commit) : HostPool(PoolKind::pinned, device, bound, commit), device_(device) {
    this->commit(commit);
    pin(base(), exported_bytes(), device);
  }
  ~PinnedPool() override { unpin(base()); }

  PoolTicket ticket() const override { return {.kind = PoolKind::pinned, .device = device_, .bytes = exported_bytes()}; }
  void grant(int device) override {
    if (device >= 0) check_device_address(base(), device);
  }

 private:
  int device_;
};

class PinnedMapping final : public PeerMapping {
 public:
  PinnedMapping(const FileDescriptor& descriptor, std::size_t bytes, int device)
      : memory_(SharedMemory::map(descriptor, bytes)), pinned_(device >= 0) {
    if (pinned_) pin(memory_.base(), bytes, device);
  }
  ~PinnedMapping() override {
    if (pinned_) unpin(memory_.base());
  }
  std::byte* base() const override { return memory_.base(); }

 private:
  SharedMemory memory_;
  bool pinned_;
};

/// Memory that somebody else maps and unmaps.
class PinnedRange final : public PeerMapping {
 public:
  PinnedRange(std::byte* base, std::size_t bytes, int device) : base_(base) { pin(base, bytes, device); }
  ~PinnedRange() override { unpin(base_); }
  std::byte* base() const override { return base_; }

 private:
  std::byte* base_;
};

}  // namespace

std::unique_ptr<PeerMapping> pin_mapped(std::byte* base, std::size_t bytes, int device) {
  return std::make_unique<PinnedRange>(base, bytes, device);
}

std::unique_ptr<Pool> make_pinned_pool(int device, std::size_t bound, std::size_t commit) {
  return std::make_unique<PinnedPool>(device, bound, commit);
}

std::unique_ptr<PeerMapping> map_pinned_peer(const PoolTicket& ticket, const FileDescriptor& descriptor, int device) {
  return std::make_unique<PinnedMapping>(descriptor, ticket.bytes, device);
}

}  // namespace collectives
