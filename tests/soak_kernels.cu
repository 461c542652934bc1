#include "soak_kernels.hpp"

#include <algorithm>

namespace collectives {
namespace {

__device__ std::uint32_t mix(std::uint32_t x) {
  x = (x ^ x >> 16) * 0x7feb352du;
  x = (x ^ x >> 15) * 0x846ca68bu;
  return x ^ x >> 16;
}

/// Between -8 and 8, so that sums are exact.
__device__ float operand(std::uint32_t call, int rank, std::size_t i) {
  return static_cast<float>(static_cast<int>(mix(mix(call * 64u + static_cast<std::uint32_t>(rank)) + static_cast<std::uint32_t>(i)) % 17u) - 8);
}

__device__ std::size_t thread_of_all() { return std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; }

__global__ void fill(SoakSide side, std::size_t count) {
  const std::uint32_t call = side.counters->calls;
  const std::uint32_t random = mix(call * 977u + static_cast<std::uint32_t>(side.rank));
  if (random % 8 == 0) __nanosleep(random >> 8 & 4095u);
  for (std::size_t i = thread_of_all(); i < count; i += std::size_t{gridDim.x} * blockDim.x) {
    side.in[i] = operand(call, side.rank, i);
    side.out[i] = -1e30f;
  }
}

__global__ void check(SoakSide side, std::size_t count) {
  const std::uint32_t call = side.counters->calls;
  unsigned long long wrong = 0;
  for (std::size_t i = thread_of_all(); i < count; i += std::size_t{gridDim.x} * blockDim.x) {
    float sum = 0;
    for (int rank = 0; rank < side.ranks; ++rank) sum += operand(call, rank, i);
    wrong += side.out[i] != sum;
  }
  if (wrong != 0) atomicAdd(&side.counters->wrong, wrong);
  __syncthreads();
  // Every block has read the call's number before the last of them moves it on.
  if (threadIdx.x != 0 || atomicAdd(&side.counters->blocks, 1u) + 1 != gridDim.x) return;
  side.counters->blocks = 0;
  side.counters->calls = call + 1;
}

constexpr unsigned threads = 512;
unsigned blocks_for(std::size_t count) { return static_cast<unsigned>(std::clamp<std::size_t>(count / (threads * 4), 1, 96)); }

}  // namespace

void launch_soak_fill(const SoakSide& side, std::size_t count, Stream stream) { fill<<<blocks_for(count), threads, 0, stream>>>(side, count); }
void launch_soak_check(const SoakSide& side, std::size_t count, Stream stream) { check<<<blocks_for(count), threads, 0, stream>>>(side, count); }

}  // namespace collectives
