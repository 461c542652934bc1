#include "perf/host_floor.hpp"

#include <cuda_runtime.h>

#include "perf/cuda_checked.hpp"

namespace perf {
namespace {

__device__ void put(uint4* place, std::uint32_t value) {
  asm volatile("st.relaxed.sys.global.v4.u32 [%0], {%1, %1, %1, %1};" ::"l"(place), "r"(value) : "memory");
}
__device__ uint4 get(const uint4* place) {
  uint4 found;
  asm volatile("ld.relaxed.sys.global.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(found.x), "=r"(found.y), "=r"(found.z), "=r"(found.w) : "l"(place));
  return found;
}
__device__ std::uint32_t mixed(uint4 pack) { return pack.x ^ pack.y ^ pack.z ^ pack.w; }

__device__ void tell(std::uint32_t* word, std::uint32_t value) { asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(word), "r"(value) : "memory"); }
__device__ std::uint32_t told(const std::uint32_t* word) {
  std::uint32_t value;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(word) : "memory");
  return value;
}
__device__ bool await(const HostWords& words, const std::uint32_t* word, std::uint32_t target) {
  for (std::uint32_t polls = 0; static_cast<std::int32_t>(told(word) - target) < 0;)
    if (++polls == words.max_polls) {
      *words.gave_up = 1;
      return false;
    }
  return true;
}

constexpr std::uint32_t unlikely = 0x12345678u;  // so that what is loaded is not left out

/// Tiles of some packs a thread, of one memory after another.
__global__ void __launch_bounds__(512, 1) flow_kernel(const __grid_constant__ HostFlow flow) {
  constexpr int unroll = 8;
  const std::size_t tile = static_cast<std::size_t>(blockDim.x) * unroll, memories = static_cast<std::size_t>(flow.memories);
  std::uint32_t seen = 0;
  for (std::size_t t = blockIdx.x; t * tile < flow.packs; t += gridDim.x) {
    uint4* at = reinterpret_cast<uint4*>(flow.memory[t % memories]) + t / memories * tile % flow.ring_packs + threadIdx.x;
    if (flow.loads) {
      uint4 pack[unroll];
#pragma unroll
      for (int u = 0; u < unroll; ++u) pack[u] = get(at + u * blockDim.x);
#pragma unroll
      for (int u = 0; u < unroll; ++u) seen ^= mixed(pack[u]);
    } else {
#pragma unroll
      for (int u = 0; u < unroll; ++u) put(at + u * blockDim.x, static_cast<std::uint32_t>(t));
    }
  }
  if (seen == unlikely) *flow.sink = seen;
}

/// One block of one of three crews: the first scatters, the second combines, the third gathers.
class HostCrew {
 public:
  __device__ explicit HostCrew(const HostTwoShot& args) : args_(args), block_(static_cast<int>(blockIdx.x) / 3), blocks_(static_cast<int>(gridDim.x) / 3) {}

  __device__ void run() {
    const int crew = static_cast<int>(blockIdx.x) % 3, rank = args_.words.rank, ranks = args_.words.ranks;
    for (std::uint32_t t = 0; t < args_.tiles; ++t) {
      if (crew > 0 ? !await_peers(crew - 1, t) : !await_room(t)) return;
      const std::uint32_t seen = crew > 0 ? load(crew == 1 ? rank : ranks, t) : t;
      if (seen == unlikely) *args_.words.gave_up = seen;
      for (int k = 1; crew == 0 && k < ranks; ++k) store((rank + k) % ranks, t, seen);
      if (crew == 1) store(ranks, t, seen);
      __syncthreads();
      if (threadIdx.x == 0) tell(crew < 2 ? args_.words.of[rank] + crew * blocks_ + block_ : args_.gathered + block_, args_.before + t + 1);
    }
  }

 private:
  static constexpr int width = 3, unroll = 2;  // loads under way: of so many peers, so many packs each

  __device__ uint4* tile(int rank, int row, std::uint32_t t) const {
    const std::size_t index = (static_cast<std::size_t>(row) * blocks_ + block_) * args_.stages + t % args_.stages;
    return reinterpret_cast<uint4*>(args_.memory[rank]) + index * args_.tile_packs;
  }
  __device__ bool await_peers(int round, std::uint32_t t) const {
    const int peer = static_cast<int>(threadIdx.x);
    const bool waits = peer < args_.words.ranks && peer != args_.words.rank;
    return __syncthreads_and(!waits || await(args_.words, args_.words.of[peer] + round * blocks_ + block_, args_.before + t + 1)) != 0;
  }
  __device__ bool await_room(std::uint32_t t) const {
    const bool waits = threadIdx.x == 0 && t >= args_.stages;
    return __syncthreads_and(!waits || await(args_.words, args_.gathered + block_, args_.before + t - args_.stages + 1)) != 0;
  }
  __device__ void store(int row, std::uint32_t t, std::uint32_t value) const {
    for (std::uint32_t p = threadIdx.x; p < args_.tile_packs; p += blockDim.x) put(tile(args_.words.rank, row, t) + p, value);
  }
  /// A tile of every peer's.
  __device__ std::uint32_t load(int row, std::uint32_t t) const {
    std::uint32_t seen = 0;
    for (int first = 1; first < args_.words.ranks; first += width)
      for (std::uint32_t base = threadIdx.x; base < args_.tile_packs; base += unroll * blockDim.x) {
        uint4 pack[width][unroll] = {};
#pragma unroll
        for (int k = 0; k < width; ++k)
#pragma unroll
          for (int u = 0; u < unroll; ++u)
            if (first + k < args_.words.ranks && base + u * blockDim.x < args_.tile_packs)
              pack[k][u] = get(tile((args_.words.rank + first + k) % args_.words.ranks, row, t) + base + u * blockDim.x);
#pragma unroll
        for (int k = 0; k < width; ++k)
#pragma unroll
          for (int u = 0; u < unroll; ++u) seen ^= mixed(pack[k][u]);
      }
    return seen;
  }

  const HostTwoShot& args_;
  int block_, blocks_;
};

__global__ void __launch_bounds__(1024, 1) host_two_shot_kernel(const __grid_constant__ HostTwoShot args) { HostCrew(args).run(); }

__global__ void meeting_kernel(const __grid_constant__ HostWords words, std::uint32_t target) {
  const int peer = static_cast<int>(threadIdx.x);
  if (peer == words.rank) tell(words.of[peer], target);
  if (peer < words.ranks && peer != words.rank) await(words, words.of[peer], target);
}

__global__ void __launch_bounds__(512, 1) row_sum_kernel(const uint4* rows, int row_count, std::size_t row_packs, uint4* out) {
  for (std::size_t p = blockIdx.x * blockDim.x + threadIdx.x; p < row_packs; p += static_cast<std::size_t>(gridDim.x) * blockDim.x) {
    uint4 sum = out[p];
    for (int k = 0; k < row_count; ++k) {
      const uint4 one = rows[static_cast<std::size_t>(k) * row_packs + p];
      sum = {sum.x + one.x, sum.y + one.y, sum.z + one.z, sum.w + one.w};
    }
    out[p] = sum;
  }
}

}  // namespace

void launch_flow(const HostFlow& flow, int blocks, int threads, collectives::Stream stream) {
  flow_kernel<<<blocks, threads, 0, stream>>>(flow);
  checked(cudaGetLastError());
}

void launch_host_two_shot(const HostTwoShot& args, int blocks, int threads, collectives::Stream stream) {
  host_two_shot_kernel<<<3 * blocks, threads, 0, stream>>>(args);
  checked(cudaGetLastError());
}

void launch_meeting(const HostWords& words, std::uint32_t target, collectives::Stream stream) {
  meeting_kernel<<<1, 32, 0, stream>>>(words, target);
  checked(cudaGetLastError());
}

void launch_row_sum(const std::byte* rows, int row_count, std::size_t row_packs, std::byte* out, collectives::Stream stream) {
  row_sum_kernel<<<16, 512, 0, stream>>>(reinterpret_cast<const uint4*>(rows), row_count, row_packs, reinterpret_cast<uint4*>(out));
  checked(cudaGetLastError());
}

}  // namespace perf
