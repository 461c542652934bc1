#include "memory/shared_memory.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>

#include "base/require.hpp"

namespace collectives {
namespace {

constexpr int size_seals = F_SEAL_SHRINK | F_SEAL_GROW;

FileDescriptor nameless_file() { return FileDescriptor(system_check(::memfd_create("collectives", MFD_CLOEXEC | MFD_ALLOW_SEALING), "memfd_create")); }

void seal(const FileDescriptor& file) { system_check(::fcntl(file.get(), F_ADD_SEALS, size_seals), "sealing of shared memory"); }

/// In steps, because a signal undoes the step it interrupts: a profiler's timer would keep one large step from ever ending.
void back_with_memory(const FileDescriptor& file, std::size_t offset, std::size_t bytes) {
  // The kernel promises shared memory without counting and then kills whoever asked for too much.
  const std::size_t available = available_host_memory();
  require(
      bytes <= available, [&] { return fmt::format("{} bytes of shared memory: this machine has {} left", bytes, available); },
      ErrorCode::out_of_memory);
  constexpr std::size_t step = std::size_t{4} << 20;
  for (std::size_t done = 0; done < bytes;) {
    const std::size_t part = std::min(step, bytes - done);
    const int error = ::posix_fallocate(file.get(), static_cast<off_t>(offset + done), static_cast<off_t>(part));
    if (error == EINTR) continue;
    require(
        error == 0, [&] { return fmt::format("{} bytes of shared memory: {}", bytes, std::strerror(error)); }, ErrorCode::out_of_memory);
    done += part;
  }
}

}  // namespace

std::size_t available_host_memory() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  for (std::size_t kilobytes = 0; file >> key >> kilobytes; file.ignore(1000, '\n'))
    if (key == "MemAvailable:") return kilobytes * 1024;
  return static_cast<std::size_t>(std::max(0L, ::sysconf(_SC_AVPHYS_PAGES))) * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

SharedMemory::SharedMemory(FileDescriptor descriptor, std::size_t bytes, void* at)
    : descriptor_(std::move(descriptor)), bytes_(bytes), owns_range_(at == nullptr) {
  void* address = ::mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | (at != nullptr ? MAP_FIXED : 0), descriptor_.get(), 0);
  require(
      address != MAP_FAILED, [&] { return fmt::format("cannot map {} bytes of shared memory: {}", bytes, std::strerror(errno)); },
      errno == ENOMEM ? ErrorCode::out_of_memory : ErrorCode::system);
  base_ = address;
}

SharedMemory SharedMemory::create(std::size_t bytes, void* at) {
  require(bytes > 0, "shared memory of 0 bytes");
  FileDescriptor file = nameless_file();
  back_with_memory(file, 0, bytes);
  seal(file);
  return SharedMemory(std::move(file), bytes, at);
}

SharedMemory SharedMemory::reserve(std::size_t bytes) {
  require(bytes > 0, "shared memory of 0 bytes");
  FileDescriptor file = nameless_file();
  system_check(::ftruncate(file.get(), static_cast<off_t>(bytes)), "sizing of shared memory");
  seal(file);
  return SharedMemory(std::move(file), bytes, nullptr);
}

void SharedMemory::back(std::size_t offset, std::size_t bytes) const { back_with_memory(descriptor_, offset, bytes); }

SharedMemory SharedMemory::map(const FileDescriptor& descriptor, std::size_t bytes) {
  struct stat status {};
  system_check(::fstat(descriptor.get(), &status), "fstat of a peer's memory");
  const int seals = ::fcntl(descriptor.get(), F_GET_SEALS);
  require(S_ISREG(status.st_mode) && seals >= 0 && (seals & size_seals) == size_seals,
          "a peer's memory is not a sealed memory file: its size could change", ErrorCode::unsupported);
  require(
      bytes > 0 && static_cast<std::size_t>(status.st_size) == bytes,
      [&] { return fmt::format("a peer's memory has {} bytes: expected {}", status.st_size, bytes); }, ErrorCode::unsupported);
  return SharedMemory(duplicate(descriptor), bytes, nullptr);
}

SharedMemory::SharedMemory(SharedMemory&& other) noexcept
    : descriptor_(std::move(other.descriptor_)),
      base_(std::exchange(other.base_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      owns_range_(other.owns_range_) {}

SharedMemory& SharedMemory::operator=(SharedMemory&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(base_, other.base_);
  std::swap(bytes_, other.bytes_);
  std::swap(owns_range_, other.owns_range_);
  return *this;
}

SharedMemory::~SharedMemory() {
  if (base_ != nullptr && owns_range_) ::munmap(base_, bytes_);
}

FileDescriptor duplicate(const FileDescriptor& descriptor) {
  return FileDescriptor(system_check(::fcntl(descriptor.get(), F_DUPFD_CLOEXEC, 0), "duplicating a descriptor"));
}

}  // namespace collectives
