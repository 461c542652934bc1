#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/cuda.hpp"
#include "base/require.hpp"
#include "memory/committed_pool.hpp"
#include "memory/device_memory.hpp"
#include "memory/kinds.hpp"
#include "memory/virtual_memory.hpp"

namespace collectives {
namespace {

std::byte* pointer_of(CUdeviceptr address) { return reinterpret_cast<std::byte*>(static_cast<std::uintptr_t>(address)); }

std::size_t granule_of(int device) {
  ensure_context(device);
  return granularity_of(device);
}

/// A pool in a GPU's memory: addresses for the whole bound, physical memory mapped into them commit by commit. Peers get the
/// first commit; the addresses of the others follow it in this process alone.
class DevicePool final : public CommittedPool {
 public:
  DevicePool(int device, std::size_t bound, std::size_t commit)
      : CommittedPool(PoolKind::device, device, bound, granule_of(device)), device_(device), range_(this->bound()), granted_{device} {
    this->commit(commit);
  }

  std::byte* base() const override { return pointer_of(range_.base()); }
  PoolTicket ticket() const override { return {.kind = PoolKind::device, .device = device_, .bytes = parts_.front().bytes()}; }
  FileDescriptor export_descriptor() const override { return parts_.front().export_descriptor(); }

  void grant(int device) override {
    if (std::find(granted_.begin(), granted_.end(), device) != granted_.end()) return;
    require_peer_access(device, device_);
    ensure_context(device);
    for (const auto& part : parts_) part.allow(device);
    granted_.push_back(device);
  }

 private:
  void back(std::size_t offset, std::size_t bytes) override {
    parts_.reserve(parts_.size() + 1);
    MappedMemory part = MappedMemory::create(device_, range_.base() + offset, bytes);
    for (const int device : granted_) part.allow(device);
    zero_device_memory(device_, base() + offset, bytes);
    parts_.push_back(std::move(part));
  }

  int device_;
  DeviceRange range_;
  std::vector<MappedMemory> parts_;
  std::vector<int> granted_;
};

class DeviceMapping final : public PeerMapping {
 public:
  DeviceMapping(const FileDescriptor& descriptor, std::size_t bytes, int device)
      : range_(bytes), memory_(MappedMemory::import(descriptor, range_.base(), bytes)) {
    memory_.allow(device);
  }
  std::byte* base() const override { return pointer_of(range_.base()); }

 private:
  DeviceRange range_;
  MappedMemory memory_;
};

}  // namespace

std::unique_ptr<Pool> make_device_pool(int device, std::size_t bound, std::size_t commit) {
  return std::make_unique<DevicePool>(device, bound, commit);
}

std::unique_ptr<PeerMapping> map_device_peer(const PoolTicket& ticket, const FileDescriptor& descriptor, int device) {
  const std::size_t granule = granule_of(device);
  require(
      ticket.bytes > 0 && ticket.bytes % granule == 0,
      [&] { return fmt::format("a peer's pool of {} bytes: expected a multiple of {}", ticket.bytes, granule); }, ErrorCode::unsupported);
  return std::make_unique<DeviceMapping>(descriptor, ticket.bytes, device);
}

bool has_exportable_virtual_memory(int device) {
  ensure_context(device);
  for (const auto attribute :
       {CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED}) {
    int value = 0;
    // The runtime's ordinals are the driver's.
    cuda_check(virtual_memory_driver().attribute(&value, attribute, device));
    if (value == 0) return false;
  }
  return true;
}

}  // namespace collectives
