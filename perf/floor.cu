#include <cuda_runtime.h>

#include "perf/cuda_checked.hpp"
#include "perf/floor.hpp"

namespace perf {
namespace {

__device__ void put(std::byte* place, uint4 pack) {
  asm volatile("st.relaxed.sys.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(place), "r"(pack.x), "r"(pack.y), "r"(pack.z), "r"(pack.w) : "memory");
}
__device__ uint4 look(const std::byte* place) {
  uint4 found;
  asm volatile("ld.relaxed.sys.global.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(found.x), "=r"(found.y), "=r"(found.z), "=r"(found.w) : "l"(place) : "memory");
  return found;
}

template <int peers, bool buffers>
class Floor {
 public:
  __device__ explicit Floor(const FloorArgs& args) : args_(args) {}

  __device__ void run() {
    for_each_pack([&](std::size_t p) { send(p); });
    for (std::size_t p = first(); p < args_.packs; p += unroll * stride()) receive(p, 0, [&](int u, const uint4(&come)[peers]) { pass(p + u * stride(), come); });
    if (args_.two_phases)
      for (std::size_t p = first(); p < args_.packs; p += unroll * stride()) receive(p, args_.ring_packs, [&](int u, const uint4(&come)[peers]) { keep_all(p + u * stride(), come); });
  }

 private:
  static constexpr int unroll = 2;

  __device__ static std::size_t first() { return blockIdx.x * blockDim.x + threadIdx.x; }
  __device__ static std::size_t stride() { return static_cast<std::size_t>(gridDim.x) * blockDim.x; }
  __device__ std::size_t place(std::size_t p, std::size_t phase) const { return ((p & (args_.ring_packs - 1)) + phase) * 16; }

  template <typename Body>
  __device__ void for_each_pack(Body body) const {
    for (std::size_t p = first(); p < args_.packs; p += stride()) body(p);
  }

  /// Pack p of what goes to peer k, from 1 to `peers`, or of this rank's own, 0.
  __device__ uint4 input(std::size_t p, int k) const {
    if constexpr (!buffers) return {args_.tag, args_.tag, args_.tag, args_.tag};
    return reinterpret_cast<const uint4*>(args_.in)[p + (args_.two_phases ? k : 0) * args_.packs];
  }
  __device__ void keep(std::size_t p, int k, const uint4& pack) const {
    if constexpr (buffers) reinterpret_cast<uint4*>(args_.out)[p + k * args_.packs] = pack;
  }

  __device__ void send(std::size_t p) const {
    uint4 pack[peers];
#pragma unroll
    for (int k = 0; k < peers; ++k) pack[k] = input(p, k + 1);
#pragma unroll
    for (int k = 0; k < peers; ++k) {
      pack[k].w = args_.tag;
      put(args_.theirs[k] + place(p, 0), pack[k]);
    }
  }

  /// What has come of the first phase: this rank's own pack becomes one of which all those are part, and goes on.
  __device__ void pass(std::size_t p, const uint4 (&come)[peers]) const {
    uint4 sum = input(p, 0);
    if constexpr (buffers) {
#pragma unroll
      for (int k = 0; k < peers; ++k) sum = {sum.x ^ come[k].x, sum.y ^ come[k].y, sum.z ^ come[k].z, args_.tag};
    }
    keep(p, 0, sum);
    if (!args_.two_phases) return;
#pragma unroll
    for (int k = 0; k < peers; ++k) put(args_.theirs[k] + place(p, args_.ring_packs), sum);
  }
  __device__ void keep_all(std::size_t p, const uint4 (&come)[peers]) const {
#pragma unroll
    for (int k = 0; k < peers; ++k) keep(p, k + 1, come[k]);
  }

  /// This thread's next packs of all peers, asked for at once.
  template <typename Body>
  __device__ void receive(std::size_t p, std::size_t phase, Body body) {
    uint4 come[unroll][peers];
    for (;;) {
      bool all = true;
#pragma unroll
      for (int u = 0; u < unroll; ++u)
#pragma unroll
        for (int k = 0; k < peers; ++k)
          if (p + u * stride() < args_.packs) come[u][k] = look(args_.mine[k] + place(p + u * stride(), phase));
#pragma unroll
      for (int u = 0; u < unroll; ++u)
#pragma unroll
        for (int k = 0; k < peers; ++k)
          if (p + u * stride() < args_.packs) all = all && has_come(come[u][k]);
      if (all || polls_ >= args_.max_polls) break;
      if (++polls_ == args_.max_polls) *args_.gave_up = 1;
    }
#pragma unroll
    for (int u = 0; u < unroll; ++u)
      if (p + u * stride() < args_.packs) body(u, come[u]);
  }
  /// Other words may be those of several calls. That they come with the last is not looked into: nobody uses them.
  __device__ bool has_come(const uint4& pack) const { return pack.w == args_.tag; }

  const FloorArgs& args_;
  std::uint32_t polls_ = 0;
};

template <int peers, bool buffers>
__global__ void __launch_bounds__(1024, 1) floor_kernel(const __grid_constant__ FloorArgs args) {
  Floor<peers, buffers>(args).run();
}

template <bool buffers>
auto kernel_for(int peers) {
  using Kernel = void (*)(FloorArgs);
  constexpr Kernel kernels[] = {floor_kernel<1, buffers>, floor_kernel<2, buffers>, floor_kernel<3, buffers>, floor_kernel<4, buffers>,
                                floor_kernel<5, buffers>, floor_kernel<6, buffers>, floor_kernel<7, buffers>};
  return kernels[peers - 1];
}

}  // namespace

void launch_floor(const FloorArgs& args, int blocks, int threads, collectives::Stream stream) {
  const auto kernel = args.in != nullptr ? kernel_for<true>(args.peers) : kernel_for<false>(args.peers);
  kernel<<<blocks, threads, 0, stream>>>(args);
  checked(cudaGetLastError());
}

void reach_peer(int device, int peer) {
  checked(cudaSetDevice(device));
  const cudaError_t result = cudaDeviceEnablePeerAccess(peer, 0);
  if (result != cudaErrorPeerAccessAlreadyEnabled) checked(result);
  (void)cudaGetLastError();
}

}  // namespace perf
