#include "perf/pinned_memory.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <collectives/error.hpp>
#include <cstring>

#include "perf/cuda_checked.hpp"

namespace perf {

PinnedMemory::PinnedMemory(std::size_t bytes) : bytes_(bytes) {
  const int file = ::memfd_create("perf", MFD_CLOEXEC);
  const bool made = file >= 0 && ::ftruncate(file, static_cast<off_t>(bytes)) == 0;
  base_ = made ? ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) : MAP_FAILED;
  if (file >= 0) ::close(file);
  if (base_ == MAP_FAILED) throw collectives::Error(collectives::ErrorCode::out_of_memory, "no memory file of that size");
  std::memset(base_, 0, bytes);
  try {
    checked(cudaHostRegister(base_, bytes, cudaHostRegisterMapped | cudaHostRegisterPortable));
  } catch (...) {
    ::munmap(base_, bytes);
    throw;
  }
}

PinnedMemory::~PinnedMemory() {
  cudaHostUnregister(base_);
  ::munmap(base_, bytes_);
}

}  // namespace perf
