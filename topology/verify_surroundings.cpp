#include <sys/resource.h>
#include <sys/statvfs.h>

#include <collectives/verify.hpp>
#include <filesystem>

#include "base/env.hpp"

#if COLLECTIVES_HAS_CUDA
#include "base/cuda.hpp"
#endif

namespace collectives {

Surroundings look_around() {
  Surroundings seen;
  seen.visible_devices = cuda_visible_devices();
#if COLLECTIVES_HAS_CUDA
  if (cudaRuntimeGetVersion(&seen.cuda_runtime) != cudaSuccess) (void)cudaGetLastError();
  if (cudaDriverGetVersion(&seen.cuda_driver) != cudaSuccess) (void)cudaGetLastError();
  if (cuda_device_count() == 0) seen.why_no_gpu = why_no_cuda();
#else
  seen.why_no_gpu = "this build of libcollectives has no CUDA backend";
#endif
  for (const char* mark : {"/.dockerenv", "/run/.containerenv"}) {
    std::error_code error;
    seen.container = seen.container || std::filesystem::exists(mark, error);
  }
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) seen.lockable_bytes = limit.rlim_cur;
  struct statvfs shm {};
  if (::statvfs("/dev/shm", &shm) == 0) seen.shm_bytes = static_cast<std::uint64_t>(shm.f_blocks) * shm.f_frsize;
  return seen;
}

}  // namespace collectives
