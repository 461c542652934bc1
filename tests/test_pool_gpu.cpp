// Pools in GPU and pinned memory. The ranks are processes; the first call to CUDA is in the children, because a child of a
// process that has called CUDA cannot.
#include <algorithm>
#include <cstring>

#include "base/cuda.hpp"
#include "base/require.hpp"
#include "memory/pool.hpp"
#include "ranks.hpp"
#include "test.hpp"
#include "transport/mesh.hpp"

using namespace collectives;

namespace {

constexpr std::size_t mib = std::size_t{1} << 20;

std::vector<std::byte> read_back(const std::byte* memory, std::size_t bytes) {
  std::vector<std::byte> copy(bytes);
  cuda_check(cudaMemcpy(copy.data(), memory, bytes, cudaMemcpyDefault));
  return copy;
}

/// One copy, so that it also shows that copies may cross from one commit into the next.
void require_filled(const std::byte* memory, std::size_t bytes, int value) {
  const auto copy = read_back(memory, bytes);
  require(std::all_of(copy.begin(), copy.end(), [&](std::byte b) { return b == std::byte(value); }),
          "the memory has the expected contents");
}

void fill(std::byte* memory, std::size_t bytes, int value) {
  cuda_check(cudaMemset(memory, value, bytes));
  cuda_check(cudaDeviceSynchronize());
}

/// Both ranks make a pool, map each other's, write into it, and look at their own; then rank 1 leaves first.
void trade(PoolKind kind, int rank, const UniqueId& id) {
  const int device = rank % cuda_device_count();
  const DeviceScope scope(device);
  Mesh mesh = Mesh::join(id, rank, 2, 60'000);
  auto pool = make_pool(kind, device, 64 * mib, 3 * mib);
  require_filled(pool->base(), 3 * mib, 0);
  pool->grant(device);
  const PoolTicket mine = pool->ticket();
  std::vector<std::uint8_t> bytes(sizeof mine);
  std::memcpy(bytes.data(), &mine, sizeof mine);
  const auto tickets = mesh.all_gather(bytes);
  const auto descriptors = mesh.exchange(pool->export_descriptor());
  PoolTicket theirs;
  std::memcpy(&theirs, tickets[1 - rank].data(), sizeof theirs);
  require(theirs.bytes == mine.bytes && theirs.kind == kind, "the tickets agree");
  PoolTicket wrong = theirs;
  wrong.bytes += 2 * mib;
  if (kind != PoolKind::device_legacy) {
    bool refused = false;
    try {
      map_peer(wrong, descriptors[1 - rank], device);
    } catch (const Error&) {
      refused = true;
    }
    require(refused, "a ticket of another size is refused");
  }
  auto mapping = map_peer(theirs, descriptors[1 - rank], device);
  fill(mapping->base(), theirs.bytes, 10 + rank);
  mesh.barrier();
  require_filled(pool->base(), mine.bytes, 11 - rank);
  mesh.barrier();
  if (rank == 1 && kind != PoolKind::device_legacy) {
    // The importer dies, or the exporter: either way the other can go on and let go.
    ::_exit(0);
  }
  if (kind != PoolKind::device_legacy) {
    while (!mesh.lost_peer()) continue;
    fill(mapping->base(), theirs.bytes, 99);
    require_filled(mapping->base(), theirs.bytes, 99);
  } else {
    mapping.reset();
    mesh.barrier();
  }
  mapping.reset();
  pool.reset();
}

}  // namespace

TEST_CASE("processes map each other's pools in GPU and pinned memory", "[memory][pool][gpu]") {
  const auto kind = GENERATE(PoolKind::device, PoolKind::device_legacy, PoolKind::pinned);
  CAPTURE(static_cast<int>(kind));
  const UniqueId id = make_unique_id();
  const auto outcomes = run_ranks(RanksAre::processes, 2, [&](int rank) { trade(kind, rank, id); });
  CHECK(outcomes[0] == "ok");
  CHECK(outcomes[1] == (kind == PoolKind::device_legacy ? "ok" : ""));
}

TEST_CASE("a pool in GPU memory grows in place and reaches the devices it is granted to", "[memory][pool][gpu]") {
  const auto outcomes = run_ranks(RanksAre::processes, 1, [&](int) {
    const int devices = cuda_device_count();
    require(device_pool_kind(0) == PoolKind::device, "this driver exports virtual memory");
    std::size_t free_before = 0, free_after = 0, total = 0;
    cuda_check(cudaMemGetInfo(&free_before, &total));
    for (const auto kind : {PoolKind::device, PoolKind::pinned, PoolKind::device_legacy}) {
      const bool grows = kind == PoolKind::device;
      const auto pool = make_pool(kind, 0, 32 * mib, 2 * mib);
      for (int device = 0; device < devices; ++device) pool->grant(device);
      for (int device = 0; device < devices; ++device) pool->grant(device);
      require(pool->allocate(mib) == 0, "first fit");
      if (grows) {
        require(pool->allocate(9 * mib) == mib, "behind the first");
        require(pool->ticket().bytes == 2 * mib && pool->statistics().committed == 10 * mib, "the export is the first commit");
      }
      const std::size_t bytes = pool->statistics().committed;
      require_filled(pool->base(), bytes, 0);
      for (int device = 0; device < devices; ++device) {
        const DeviceScope scope(device);
        fill(pool->base(), bytes, 1 + device);
        require_filled(pool->base(), bytes, 1 + device);
      }
      bool refused = false;
      try {
        pool->allocate(32 * mib);
      } catch (const Error& error) {
        refused = error.code() == ErrorCode::out_of_memory;
      }
      require(refused, "the bound holds");
      refused = false;
      try {
        make_pool(kind, 0, 32 * mib, 31 * mib);
      } catch (const Error& error) {
        refused = error.code() == ErrorCode::out_of_memory;
      }
      require(refused, "the bound is shared");
    }
    cuda_check(cudaMemGetInfo(&free_after, &total));
    require(free_after + 2 * mib >= free_before, "everything was given back");
    require(pool_bound(0, std::nullopt) >= 32 * mib && pool_bound(0, std::nullopt) <= 512 * mib, "the bound is within its limits");
  });
  CHECK(outcomes[0] == "ok");
}
