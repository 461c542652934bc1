#include <cuda_runtime.h>

#include "perf/cuda_checked.hpp"
#include "perf/floor.hpp"

namespace perf {
namespace {

__device__ void put(std::byte* place, std::uint32_t tag) {
  asm volatile("st.relaxed.sys.global.v4.u32 [%0], {%1, %1, %1, %1};" ::"l"(place), "r"(tag) : "memory");
}
__device__ bool has_come(const std::byte* place, std::uint32_t tag) {
  uint4 found;
  asm volatile("ld.relaxed.sys.global.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(found.x), "=r"(found.y), "=r"(found.z), "=r"(found.w) : "l"(place) : "memory");
  return found.x == tag && found.y == tag && found.z == tag && found.w == tag;
}

template <int peers>
class Floor {
 public:
  __device__ explicit Floor(const FloorArgs& args) : args_(args) {}

  __device__ void run() {
    for_each_pack([&](std::size_t p) { store(p, 0); });
    for (std::size_t p = first(); p < args_.packs; p += unroll * stride()) {
      await(p, 0);
      if (!args_.two_phases) continue;
      for (int u = 0; u < unroll; ++u)
        if (p + u * stride() < args_.packs) store(p + u * stride(), args_.ring_packs);
    }
    if (args_.two_phases)
      for (std::size_t p = first(); p < args_.packs; p += unroll * stride()) await(p, args_.ring_packs);
  }

 private:
  static constexpr int unroll = 4;

  __device__ static std::size_t first() { return blockIdx.x * blockDim.x + threadIdx.x; }
  __device__ static std::size_t stride() { return static_cast<std::size_t>(gridDim.x) * blockDim.x; }
  __device__ std::size_t place(std::size_t p, std::size_t phase) const { return ((p & (args_.ring_packs - 1)) + phase) * 16; }

  template <typename Body>
  __device__ void for_each_pack(Body body) const {
    for (std::size_t p = first(); p < args_.packs; p += stride()) body(p);
  }

  __device__ void store(std::size_t p, std::size_t phase) const {
#pragma unroll
    for (int k = 0; k < peers; ++k) put(args_.theirs[k] + place(p, phase), args_.tag);
  }

  /// This thread's next packs of all peers, asked for at once.
  __device__ void await(std::size_t p, std::size_t phase) {
    for (;;) {
      bool all = true;
#pragma unroll
      for (int u = 0; u < unroll; ++u)
#pragma unroll
        for (int k = 0; k < peers; ++k)
          if (p + u * stride() < args_.packs) all = has_come(args_.mine[k] + place(p + u * stride(), phase), args_.tag) && all;
      if (all || polls_ >= args_.max_polls) return;
      if (++polls_ == args_.max_polls) *args_.gave_up = 1;
    }
  }

  const FloorArgs& args_;
  std::uint32_t polls_ = 0;
};

template <int peers>
__global__ void __launch_bounds__(1024, 1) floor_kernel(const __grid_constant__ FloorArgs args) {
  Floor<peers>(args).run();
}

}  // namespace

void launch_floor(const FloorArgs& args, int blocks, int threads, collectives::Stream stream) {
  using Kernel = void (*)(FloorArgs);
  constexpr Kernel kernels[] = {floor_kernel<1>, floor_kernel<2>, floor_kernel<3>, floor_kernel<4>, floor_kernel<5>, floor_kernel<6>, floor_kernel<7>};
  kernels[args.peers - 1]<<<blocks, threads, 0, stream>>>(args);
  checked(cudaGetLastError());
}

void reach_peer(int device, int peer) {
  checked(cudaSetDevice(device));
  const cudaError_t result = cudaDeviceEnablePeerAccess(peer, 0);
  if (result != cudaErrorPeerAccessAlreadyEnabled) checked(result);
  (void)cudaGetLastError();
}

}  // namespace perf
