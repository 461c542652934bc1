#include "memory/host_pool.hpp"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/require.hpp"
#include "memory/kinds.hpp"

namespace collectives {
namespace {

/// Growing is rare, and every part costs a mapping: more than a page at a time. No page of CPUs with this library is larger.
constexpr std::size_t granule = 64 * 1024;

class HostMapping : public PeerMapping {
 public:
  HostMapping(const FileDescriptor& descriptor, std::size_t bytes) : memory_(SharedMemory::map(descriptor, bytes)) {}
  std::byte* base() const override { return memory_.base(); }

 private:
  SharedMemory memory_;
};

}  // namespace

AddressRange::AddressRange(std::size_t bytes) : bytes_(bytes) {
  void* address = ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  require(
      address != MAP_FAILED, [&] { return fmt::format("{} bytes of address space: {}", bytes, std::strerror(errno)); },
      ErrorCode::out_of_memory);
  base_ = address;
}

AddressRange::~AddressRange() { ::munmap(base_, bytes_); }

HostPool::HostPool(PoolKind kind, int device, std::size_t bound, std::size_t capacity)
    : CommittedPool(kind, device, bound, granule, capacity), range_(round_up(capacity, granule)) {}

HostPool::HostPool(std::size_t bound, std::size_t commit) : HostPool(PoolKind::host, -1, bound, bound) { this->commit(commit); }

PoolTicket HostPool::ticket() const { return {.kind = PoolKind::host, .device = -1, .bytes = exported_bytes()}; }

void HostPool::grant(int device) {
  require(
      device == -1, [&] { return fmt::format("device {} cannot reach a pool of plain host memory", device); }, ErrorCode::unsupported);
}

void HostPool::back(std::size_t offset, std::size_t bytes) { parts_.push_back(SharedMemory::create(bytes, base() + offset)); }

std::unique_ptr<Pool> make_host_pool(std::size_t bound, std::size_t commit) { return std::make_unique<HostPool>(bound, commit); }

std::unique_ptr<PeerMapping> map_host_peer(const PoolTicket& ticket, const FileDescriptor& descriptor) {
  return std::make_unique<HostMapping>(descriptor, ticket.bytes);
}

}  // namespace collectives
