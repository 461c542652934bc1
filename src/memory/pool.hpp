#pragma once

#include <collectives/communicator.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/file_descriptor.hpp"

namespace collectives {

/// Where a pool's memory is.
enum class PoolKind : std::uint8_t {
  host,          ///< memfd, for CPU ranks
  pinned,        ///< memfd registered with CUDA, for GPUs that do not reach each other
  device,        ///< virtual-memory allocation of a GPU, exported as a file descriptor
  device_legacy  ///< cudaMalloc, exported by CUDA IPC, where the driver cannot do the former
};

constexpr bool is_device_memory(PoolKind kind) { return kind == PoolKind::device || kind == PoolKind::device_legacy; }

/// What another process needs to map a pool, beside the descriptor: trivially copyable, sent over an authenticated socket.
struct PoolTicket {
  PoolKind kind = PoolKind::host;
  std::int32_t device = -1;
  std::uint64_t bytes = 0;           ///< committed
  std::uint8_t ipc_handle[64] = {};  ///< device_legacy only
};

/// One rank's exported memory: address space reserved up to a bound, the first `committed` bytes backed and filled with
/// zeros, sub-allocated from the front. Not thread-safe.
class Pool {
 public:
  virtual ~Pool() = default;

  virtual std::byte* base() const = 0;
  virtual PoolTicket ticket() const = 0;
  /// A descriptor of the committed memory for another process; none for device_legacy.
  virtual FileDescriptor export_descriptor() const = 0;
  /// Lets `device` of this process reach this pool at `base()`. Throws Error(unsupported) if it cannot.
  virtual void grant(int device) = 0;

  virtual PoolStatistics statistics() const = 0;
  /// The offset of `bytes` bytes aligned to 256, backed by memory. Throws Error(out_of_memory) that says what was needed and
  /// what the bound is. Offsets are stable. Peers get the first commit alone: what `allocate` adds behind it is this
  /// process's. Pinned and device_legacy pools add nothing: what they begin with is all they have.
  virtual std::size_t allocate(std::size_t bytes) = 0;
  virtual void release(std::size_t offset) = 0;
};

/// The upper bound for a pool on `device` (-1: host): `wanted` if given, else 10 % of the free memory clamped to 32-512 MB.
std::size_t pool_bound(int device, std::optional<std::size_t> wanted);

/// What one more communicator may take of a bound.
struct PoolRoom {
  std::size_t usual = 0;  ///< that there is some for the next: half of what is left of the bound's first half, then a 24th of what is left
  std::size_t left = 0;   ///< if it cannot do with that
};
PoolRoom room_of(std::size_t bound, std::size_t left);

/// The room on `device` (-1: host). An explicit bound is the communicator's own, unless other pools of this process are there.
PoolRoom pool_room(int device, std::optional<std::size_t> wanted);

/// A pool of at most `bound` bytes with `commit` bytes backed at once. All pools of this process on one device share the bound
/// of the largest: Error(out_of_memory) says what was asked for, what others hold and how to raise it.
std::unique_ptr<Pool> make_pool(PoolKind kind, int device, std::size_t bound, std::size_t commit);

/// The kind to use for a GPU: device where the driver can export virtual memory as descriptors, else device_legacy.
PoolKind device_pool_kind(int device);

/// Another process's pool in this process's address space, reachable from `device` (-1: host). Unmapped on destruction.
class PeerMapping {
 public:
  virtual ~PeerMapping() = default;
  virtual std::byte* base() const = 0;
};

/// Host memory that is mapped at `base` already, reachable from `device` too, at the same address, until this is destroyed.
std::unique_ptr<PeerMapping> pin_mapped(std::byte* base, std::size_t bytes, int device);

/// Maps what `ticket` and `descriptor` describe; their sizes are checked against the file. Throws Error(unsupported) or
/// Error(device) with the reason.
std::unique_ptr<PeerMapping> map_peer(const PoolTicket& ticket, const FileDescriptor& descriptor, int device);

}  // namespace collectives
