#include "soak_kernels.hpp"

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

__global__ void fill(SoakSide side, std::size_t count) {
  const std::uint32_t call = *side.call;
  const std::uint32_t random = mix(call * 977u + static_cast<std::uint32_t>(side.rank));
  if (random % 8 == 0) __nanosleep(random >> 8 & 4095u);
  for (std::size_t i = threadIdx.x; i < count; i += blockDim.x) {
    side.in[i] = operand(call, side.rank, i);
    side.out[i] = -1e30f;
  }
}

__global__ void check(SoakSide side, std::size_t count) {
  const std::uint32_t call = *side.call;
  unsigned long long wrong = 0;
  for (std::size_t i = threadIdx.x; i < count; i += blockDim.x) {
    float sum = 0;
    for (int rank = 0; rank < side.ranks; ++rank) sum += operand(call, rank, i);
    wrong += side.out[i] != sum;
  }
  if (wrong != 0) atomicAdd(side.wrong, wrong);
  __syncthreads();
  if (threadIdx.x == 0) *side.call = call + 1;
}

}  // namespace

void launch_soak_fill(const SoakSide& side, std::size_t count, Stream stream) { fill<<<1, 512, 0, stream>>>(side, count); }
void launch_soak_check(const SoakSide& side, std::size_t count, Stream stream) { check<<<1, 512, 0, stream>>>(side, count); }

}  // namespace collectives
