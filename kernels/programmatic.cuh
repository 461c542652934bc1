#pragma once

#include "base/cuda.hpp"

// Programmatic dependent launch (CUDA C++ Programming Guide): a kernel starts while the one before it in the stream is ending, and lets
// the one behind it start so. Only kernels of a tile are launched like this: the blocks of two calls at once must fit a GPU.
namespace collectives::kernels {

/// In a kernel that was launched `early`, before anything else: waits until the kernels before it have ended and what they wrote is seen.
__device__ __forceinline__ void begin_behind_others([[maybe_unused]] bool early) {
#if __CUDA_ARCH__ >= 900
  if (!early) return;
  cudaGridDependencySynchronize();
  cudaTriggerProgrammaticLaunchCompletion();
#endif
}

/// Enqueues a kernel that begins so if it is `early`.
template <typename Args>
void launch_kernel(void (*kernel)(Args), const Args& args, int blocks, int threads, Stream stream, bool early) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = early ? 1 : 0;
  cuda_check(cudaLaunchKernelEx(&config, kernel, args));
}

}  // namespace collectives::kernels
