#include "memory/pool.hpp"

#include <cstring>

#include "memory/shared_memory.hpp"
#include "ranks.hpp"
#include "test.hpp"

using namespace collectives;

namespace {

constexpr std::size_t kib = 1024;
constexpr std::size_t mib = 1024 * kib;

bool all_zero(const std::byte* bytes, std::size_t count) {
  return std::all_of(bytes, bytes + count, [](std::byte value) { return value == std::byte(0); });
}

}  // namespace

TEST_CASE("a host pool begins with zeros and grows to its bound", "[memory][pool]") {
  const auto before = open_descriptors();
  {
    const auto pool = make_pool(PoolKind::host, -1, 4 * mib, 256 * kib);
    CHECK(pool->statistics().reserved == 4 * mib);
    CHECK(pool->statistics().committed == 256 * kib);
    CHECK(all_zero(pool->base(), 256 * kib));
    std::byte* const base = pool->base();
    const auto first = pool->allocate(200 * kib);
    CHECK(first == 0);
    std::memset(base + first, 1, 200 * kib);
    const auto second = pool->allocate(300 * kib);
    CHECK(second == 200 * kib);
    CHECK(pool->base() == base);
    CHECK(pool->statistics().committed == 512 * kib);
    CHECK(all_zero(base + second, 300 * kib));
    std::memset(base + second, 2, 300 * kib);
    CHECK(base[first] == std::byte(1));
    CHECK(pool->statistics().in_use == 500 * kib);
    CHECK(pool->statistics().allocations == 2);

    CHECK_THROWS_WITH(pool->allocate(4 * mib), ContainsSubstring("4194304 bytes needed") && ContainsSubstring("bound is 4194304"));
    CHECK(pool->statistics().failures == 1);
    pool->release(first);
    CHECK(pool->allocate(1) == 0);
    pool->release(second);
    CHECK(pool->allocate(4 * mib - 256) == 256);
    CHECK(pool->statistics().committed == 4 * mib);
    CHECK(pool->statistics().high_water == 4 * mib);
  }
  CHECK(open_descriptors() == before);
}

TEST_CASE("a peer maps the first commit of a host pool through its descriptor", "[memory][pool]") {
  auto pool = make_pool(PoolKind::host, -1, 4 * mib, 100);
  const PoolTicket ticket = pool->ticket();
  CHECK(ticket.kind == PoolKind::host);
  CHECK(ticket.bytes == pool->statistics().committed);
  const FileDescriptor descriptor = pool->export_descriptor();
  CHECK((::fcntl(descriptor.get(), F_GETFD) & FD_CLOEXEC) != 0);
  pool->allocate(1 * mib);
  CHECK(pool->ticket().bytes == ticket.bytes);
  CHECK(pool->statistics().committed > ticket.bytes);

  const auto mapping = map_peer(ticket, descriptor, -1);
  pool->base()[99] = std::byte(5);
  CHECK(mapping->base()[99] == std::byte(5));
  mapping->base()[ticket.bytes - 1] = std::byte(6);
  CHECK(pool->base()[ticket.bytes - 1] == std::byte(6));
  pool.reset();
  // The memory lives as long as its last mapping.
  CHECK(mapping->base()[99] == std::byte(5));

  PoolTicket wrong = ticket;
  wrong.bytes += 64 * kib;
  CHECK_THROWS_WITH(map_peer(wrong, descriptor, -1), ContainsSubstring("bytes: expected"));
  wrong.bytes = 0;
  CHECK_THROWS_AS(map_peer(wrong, descriptor, -1), Error);
  CHECK_THROWS_WITH(map_peer(ticket, FileDescriptor(), -1), ContainsSubstring("without a descriptor"));
  CHECK_THROWS_AS(map_peer(ticket, descriptor, 0), Error);
  wrong = ticket;
  wrong.kind = static_cast<PoolKind>(9);
  CHECK_THROWS_WITH(map_peer(wrong, descriptor, -1), ContainsSubstring("unknown kind"));
}

TEST_CASE("a mapping outlives the process that made the pool", "[memory][pool]") {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const FileDescriptor read_end(ends[0]), write_end(ends[1]);
  const auto pool = make_pool(PoolKind::host, -1, mib, mib);
  const auto descriptor = pool->export_descriptor();
  RankProcess writer([&](int) { map_peer(pool->ticket(), descriptor, -1)->base()[12345] = std::byte(77); }, 0);
  CHECK(writer.outcome() == "ok");
  CHECK(pool->base()[12345] == std::byte(77));
}

TEST_CASE("all pools of a process on one device share the largest bound", "[memory][pool]") {
  auto first = make_pool(PoolKind::host, -1, 4 * mib, 3 * mib);
  try {
    make_pool(PoolKind::host, -1, 3 * mib, 2 * mib);
    FAIL("3 of 4 MiB are taken");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::out_of_memory);
    CHECK_THAT(error.what(), ContainsSubstring("needs 2097152 bytes") && ContainsSubstring("bound of 3145728") &&
                                 ContainsSubstring("hold 3145728") && ContainsSubstring("may hold 4194304") &&
                                 ContainsSubstring("COLLECTIVES_POOL_BYTES"));
  }
  const auto second = make_pool(PoolKind::host, -1, 3 * mib, 1 * mib);
  // There is room in the second pool's own bound, but none in the one that both share.
  CHECK_THROWS_AS(second->allocate(2 * mib), Error);
  CHECK(second->statistics().failures == 1);
  CHECK(second->statistics().in_use == 0);
  CHECK(second->statistics().committed == 1 * mib);
  {
    // A larger bound is everyone's.
    const auto third = make_pool(PoolKind::host, -1, 8 * mib, 4 * mib);
    CHECK_THROWS_AS(make_pool(PoolKind::host, -1, 1 * mib, 64 * kib), Error);
  }
  first.reset();
  CHECK(second->allocate(2 * mib) == 0);
}

TEST_CASE("what a pool is asked for is checked", "[memory][pool]") {
  CHECK_THROWS_WITH(make_pool(PoolKind::host, -1, mib, 2 * mib), ContainsSubstring("needs 2097152 bytes") &&
                                                                     ContainsSubstring("bound is 1048576") &&
                                                                     ContainsSubstring("COLLECTIVES_POOL_BYTES"));
  CHECK_THROWS_AS(make_pool(PoolKind::host, -1, mib, 0), Error);
  CHECK_THROWS_AS(make_pool(PoolKind::host, 0, mib, mib), Error);
  CHECK_THROWS_AS(make_pool(PoolKind::device, -1, mib, mib), Error);
  const auto pool = make_pool(PoolKind::host, -1, mib, mib);
  CHECK_NOTHROW(pool->grant(-1));
  CHECK_THROWS_AS(pool->grant(0), Error);
  CHECK_THROWS_AS(pool->release(0), Error);
}

TEST_CASE("a pool's bound is what was asked for, else a tenth of what is free within limits", "[memory][pool]") {
  CHECK(pool_bound(-1, 12345) == 12345);
  const std::size_t bound = pool_bound(-1, std::nullopt);
  CHECK(bound >= 32 * mib);
  CHECK(bound <= 512 * mib);
  const std::size_t tenth = available_host_memory() / 10;
  if (tenth > 40 * mib && tenth < 500 * mib) CHECK(bound / mib == Approx(tenth / mib).epsilon(0.2));
}

TEST_CASE("each communicator leaves room for the next", "[memory][pool]") {
  constexpr std::size_t bound = std::size_t{8} << 20;
  const auto usual = [](std::optional<std::size_t> wanted) { return pool_room(-1, wanted).usual; };
  CHECK(usual(bound) == bound);
  CHECK(usual(std::nullopt) == pool_bound(-1, std::nullopt) / 2);
  const auto first = make_pool(PoolKind::host, -1, bound, bound / 4);
  CHECK(usual(bound) == bound * 3 / 8);
  CHECK(pool_room(-1, bound).left == bound * 3 / 4);
  const auto second = make_pool(PoolKind::host, -1, bound, bound / 4);
  CHECK(usual(bound) == bound / 48);
  CHECK(pool_room(-1, bound).left == bound / 2);
  CHECK(pool_room(-1, bound / 8).left == bound / 8);
  CHECK(usual(2 * bound) == bound * 3 / 4);
}

#if !COLLECTIVES_HAS_CUDA
TEST_CASE("a build without CUDA says so", "[memory][pool]") {
  for (const auto kind : {PoolKind::pinned, PoolKind::device, PoolKind::device_legacy}) {
    try {
      make_pool(kind, 0, mib, mib);
      FAIL("there is no CUDA");
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::unsupported);
    }
  }
  CHECK_THROWS_AS(pool_bound(0, std::nullopt), Error);
  CHECK_THROWS_AS(device_pool_kind(0), Error);
}
#endif
