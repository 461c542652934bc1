#include <cuda_runtime.h>

#include <cuda/atomic>

#include "perf/p2p_kernels.hpp"

namespace perf {
namespace {

constexpr int copy_threads = 512;
constexpr int unroll = 8;

__global__ void __launch_bounds__(copy_threads) copy_kernel(const CopyArgs args) {
  auto* to = static_cast<uint4*>(args.to);
  const auto* from = static_cast<const uint4*>(args.from);
  const std::size_t tile = static_cast<std::size_t>(copy_threads) * unroll;
  for (int pass = 0; pass < args.passes; ++pass)
    for (std::size_t base = blockIdx.x * tile; base < args.packs; base += gridDim.x * tile) {
      uint4 packs[unroll];
      // Volatile, so that a later pass is read again and not kept; the loads are all under way before the first store.
#pragma unroll
      for (int i = 0; i < unroll; ++i) {
        const std::size_t index = base + static_cast<std::size_t>(i) * copy_threads + threadIdx.x;
        if (index < args.packs) packs[i] = __ldcv(from + index);
      }
#pragma unroll
      for (int i = 0; i < unroll; ++i) {
        const std::size_t index = base + static_cast<std::size_t>(i) * copy_threads + threadIdx.x;
        if (index < args.packs) __stwt(to + index, packs[i]);
      }
    }
}

__global__ void ping_pong_kernel(const PingPongArgs args) {
  cuda::atomic_ref<std::uint32_t, cuda::thread_scope_system> theirs(*args.theirs);
  cuda::atomic_ref<std::uint32_t, cuda::thread_scope_system> mine(*args.mine);
  for (std::uint32_t round = 1; round <= args.rounds; ++round) {
    if (args.serves) theirs.store(round, cuda::memory_order_relaxed);
    std::uint32_t spins = 0;
    while (mine.load(cuda::memory_order_relaxed) < round)
      if (++spins >= args.max_spins) {
        *args.gave_up = 1;
        return;
      }
    if (!args.serves) theirs.store(round, cuda::memory_order_relaxed);
  }
}

}  // namespace

int launch_copy(const CopyArgs& args, int blocks, collectives::Stream stream) {
  copy_kernel<<<blocks, copy_threads, 0, stream>>>(args);
  return cudaGetLastError();
}

int launch_ping_pong(const PingPongArgs& args, collectives::Stream stream) {
  ping_pong_kernel<<<1, 1, 0, stream>>>(args);
  return cudaGetLastError();
}

int load_p2p_kernels() {
  cudaFuncAttributes attributes{};
  const cudaError_t result = cudaFuncGetAttributes(&attributes, copy_kernel);
  return result == cudaSuccess ? cudaFuncGetAttributes(&attributes, ping_pong_kernel) : result;
}

}  // namespace perf
