#include "memory/pool.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "base/require.hpp"
#include "memory/budget.hpp"
#include "memory/kinds.hpp"
#include "memory/shared_memory.hpp"
#if COLLECTIVES_HAS_CUDA
#include "base/cuda.hpp"
#endif

namespace collectives {
namespace {

constexpr std::size_t least_bound = std::size_t{32} << 20;
constexpr std::size_t most_bound = std::size_t{512} << 20;

constexpr const char* name_of(PoolKind kind) {
  constexpr const char* names[] = {"host", "pinned", "device", "device_legacy"};
  const auto index = static_cast<std::size_t>(kind);
  return index < 4 ? names[index] : "unknown";
}

#if COLLECTIVES_HAS_CUDA
std::size_t free_device_memory(int device) {
  const DeviceScope scope(device);
  std::size_t free = 0, total = 0;
  cuda_check(cudaMemGetInfo(&free, &total));
  return free;
}
#else
[[noreturn]] void refuse_cuda(const char* what) {
  throw Error(ErrorCode::unsupported, fmt::format("{} needs CUDA: this build of the library has the host backend alone", what));
}

std::size_t free_device_memory(int) { refuse_cuda("the memory of a device"); }
#endif

void check_kind(PoolKind kind, int device, const char* what) {
  require(static_cast<std::size_t>(kind) < 4, [&] { return fmt::format("{} of an unknown kind, {}", what, static_cast<int>(kind)); });
  require((kind == PoolKind::host) == (device < 0), [&] {
    return fmt::format("{} of kind {} and device {}: expected -1 for host and a GPU for the others", what, name_of(kind), device);
  });
}

}  // namespace

std::size_t pool_bound(int device, std::optional<std::size_t> wanted) {
  if (wanted) return *wanted;
  const std::size_t free = device < 0 ? available_host_memory() : free_device_memory(device);
  return std::clamp(free / 10, least_bound, most_bound);
}

PoolRoom room_of(std::size_t bound, std::size_t left) { return {.usual = left > bound / 2 ? left / 2 : left / 24, .left = left}; }

PoolRoom pool_room(int device, std::optional<std::size_t> wanted) {
  const std::size_t bound = pool_bound(device, wanted);
  const auto of = [&](PoolKind kind) { return wanted && !is_shared_place(kind, device) ? PoolRoom{bound, bound} : room_of(bound, room_for(kind, device, bound)); };
  if (device < 0) return of(PoolKind::host);
  // Which of them a communicator wants is known once its ranks have met.
  const PoolRoom device_memory = of(PoolKind::device), pinned = of(PoolKind::pinned);
  return {std::min(device_memory.usual, pinned.usual), std::min(device_memory.left, pinned.left)};
}

std::unique_ptr<Pool> make_pool(PoolKind kind, int device, std::size_t bound, std::size_t commit) {
  check_kind(kind, device, "a pool");
  require(commit > 0, "a pool without memory: expected at least one byte");
  require(
      commit <= bound,
      [&] {
        return fmt::format(
            "a pool of kind {} needs {} bytes but its bound is {}, whatever other pools hold; COLLECTIVES_POOL_BYTES raises it",
            name_of(kind), commit, bound);
      },
      ErrorCode::out_of_memory);
  if (kind == PoolKind::host) return make_host_pool(bound, commit);
#if COLLECTIVES_HAS_CUDA
  if (kind == PoolKind::pinned) return make_pinned_pool(device, bound, commit);
  return kind == PoolKind::device ? make_device_pool(device, bound, commit) : make_legacy_pool(device, bound, commit);
#else
  refuse_cuda(name_of(kind));
#endif
}

std::unique_ptr<PeerMapping> map_peer(const PoolTicket& ticket, const FileDescriptor& descriptor, int device) {
  check_kind(ticket.kind, ticket.device, "a peer's pool");
  require(ticket.kind == PoolKind::host || ticket.kind == PoolKind::pinned || device >= 0, "a CPU cannot reach a pool in a GPU's memory",
          ErrorCode::unsupported);
  require(ticket.kind == PoolKind::device_legacy || static_cast<bool>(descriptor), "a peer's pool came without a descriptor");
  if (ticket.kind == PoolKind::host) {
    require(device < 0, "a GPU cannot reach a peer's pool of plain host memory", ErrorCode::unsupported);
    return map_host_peer(ticket, descriptor);
  }
#if COLLECTIVES_HAS_CUDA
  if (ticket.kind == PoolKind::pinned) return map_pinned_peer(ticket, descriptor, device);
  return ticket.kind == PoolKind::device ? map_device_peer(ticket, descriptor, device) : map_legacy_peer(ticket, device);
#else
  refuse_cuda("a peer's pool");
#endif
}

PoolKind device_pool_kind(int device) {
#if COLLECTIVES_HAS_CUDA
  return has_exportable_virtual_memory(device) ? PoolKind::device : PoolKind::device_legacy;
#else
  refuse_cuda(fmt::format("device {}", device).c_str());
#endif
}

}  // namespace collectives
