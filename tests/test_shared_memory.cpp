#include "memory/shared_memory.hpp"

#include <sys/mman.h>
#include <sys/stat.h>

#include "base/require.hpp"
#include "ranks.hpp"
#include "test.hpp"

using namespace collectives;

TEST_CASE("shared memory is zero, shared through its descriptor and gone with its last holder", "[memory][shared_memory]") {
  const auto before = open_descriptors();
  {
    const std::size_t bytes = GENERATE(1, 4096, 5 * 1024 * 1024 + 3);
    CAPTURE(bytes);
    auto memory = SharedMemory::create(bytes);
    REQUIRE(memory.bytes() == bytes);
    for (std::size_t i = 0; i < bytes; i += 4095) REQUIRE(memory.base()[i] == std::byte(0));
    auto mapping = SharedMemory::map(memory.descriptor(), bytes);
    REQUIRE(mapping.base() != memory.base());
    memory.base()[bytes - 1] = std::byte(7);
    CHECK(mapping.base()[bytes - 1] == std::byte(7));
    // Unmapping is safe whoever goes first.
    std::byte* const base = memory.base();
    SharedMemory moved = std::move(memory);
    CHECK(moved.base() == base);
    moved = SharedMemory::create(1);
    CHECK(mapping.base()[bytes - 1] == std::byte(7));
  }
  CHECK(open_descriptors() == before);
}

TEST_CASE("another process sees the memory, and its death takes nothing away", "[memory][shared_memory]") {
  const auto memory = SharedMemory::create(8192);
  RankProcess child(
      [&](int) {
        auto mapping = SharedMemory::map(memory.descriptor(), 8192);
        mapping.base()[8191] = std::byte(42);
      },
      0);
  CHECK(child.outcome() == "ok");
  CHECK(memory.base()[8191] == std::byte(42));
}

TEST_CASE("reserved memory takes none until a part of it is backed", "[memory][shared_memory]") {
  const std::size_t bytes = std::size_t{1} << 30, part = 8192;
  const auto memory = SharedMemory::reserve(bytes);
  const auto taken = [&] {
    struct stat status {};
    REQUIRE(::fstat(memory.descriptor().get(), &status) == 0);
    return static_cast<std::size_t>(status.st_blocks) * 512;
  };
  CHECK(taken() == 0);
  const auto mapping = SharedMemory::map(memory.descriptor(), bytes);
  mapping.back(bytes - part, part);
  CHECK((taken() >= part && taken() < bytes / 2));
  mapping.base()[bytes - 1] = std::byte(7);
  CHECK(memory.base()[bytes - 1] == std::byte(7));
  CHECK_THROWS_WITH(memory.back(0, available_host_memory() * 4), ContainsSubstring("this machine has"));
  CHECK(::ftruncate(memory.descriptor().get(), 0) == -1);
  CHECK_THROWS_AS(SharedMemory::reserve(0), Error);
}

TEST_CASE("the size of shared memory is fixed and checked", "[memory][shared_memory]") {
  const auto memory = SharedMemory::create(4096);
  CHECK(::ftruncate(memory.descriptor().get(), 0) == -1);
  CHECK(::ftruncate(memory.descriptor().get(), 8192) == -1);
  CHECK_THROWS_WITH(SharedMemory::map(memory.descriptor(), 8192), ContainsSubstring("has 4096 bytes: expected 8192"));
  CHECK_THROWS_WITH(SharedMemory::map(memory.descriptor(), 4095), ContainsSubstring("expected 4095"));
  CHECK_THROWS_AS(SharedMemory::map(FileDescriptor(), 4096), Error);
  CHECK_THROWS_AS(SharedMemory::create(0), Error);
}

TEST_CASE("memory whose size could change is refused", "[memory][shared_memory]") {
  const FileDescriptor unsealed(::memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  REQUIRE(::ftruncate(unsealed.get(), 4096) == 0);
  CHECK_THROWS_WITH(SharedMemory::map(unsealed, 4096), ContainsSubstring("not a sealed memory file"));
  REQUIRE(::fcntl(unsealed.get(), F_ADD_SEALS, F_SEAL_SHRINK) == 0);
  CHECK_THROWS_WITH(SharedMemory::map(unsealed, 4096), ContainsSubstring("not a sealed memory file"));
  REQUIRE(::fcntl(unsealed.get(), F_ADD_SEALS, F_SEAL_GROW) == 0);
  CHECK_NOTHROW(SharedMemory::map(unsealed, 4096));
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const FileDescriptor read_end(ends[0]), write_end(ends[1]);
  CHECK_THROWS_WITH(SharedMemory::map(read_end, 4096), ContainsSubstring("not a sealed memory file"));
}

TEST_CASE("more shared memory than there is gives an error and no signal", "[memory][shared_memory]") {
  CHECK_THROWS_WITH(SharedMemory::create(available_host_memory() * 4), ContainsSubstring("this machine has"));
}
