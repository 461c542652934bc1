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

/// What an element of a rank's output is.
__device__ float expected(std::uint32_t call, const SoakSide& side, const SoakCall& what, std::size_t i) {
  if (what.collective == Collective::all_gather) return operand(call, static_cast<int>(i / what.count), i % what.count);
  if (what.collective == Collective::broadcast) return operand(call, what.root, i);
  const std::size_t at = what.collective == Collective::reduce_scatter ? i + what.count * static_cast<std::size_t>(side.rank) : i;
  float sum = 0;
  for (int rank = 0; rank < side.ranks; ++rank) sum += operand(call, rank, at);
  return sum;
}

/// As an element of the type.
__device__ float as(DataType type, float value) { return type == DataType::int32 ? __int_as_float(static_cast<int>(value)) : value; }

__global__ void fill(SoakSide side, DataType type, std::size_t in_count, std::size_t out_count) {
  const std::uint32_t call = side.counters->calls;
  const std::uint32_t random = mix(call * 977u + static_cast<std::uint32_t>(side.rank));
  if (random % 8 == 0) __nanosleep(random >> 8 & 4095u);
  for (std::size_t i = thread_of_all(); i < in_count || i < out_count; i += std::size_t{gridDim.x} * blockDim.x) {
    if (i < in_count) side.in[i] = as(type, operand(call, side.rank, i));
    if (i < out_count) side.out[i] = -1e30f;
  }
}

__global__ void check(SoakSide side, SoakCall what, std::size_t out_count) {
  const std::uint32_t call = side.counters->calls;
  unsigned long long wrong = 0;
  for (std::size_t i = thread_of_all(); i < out_count; i += std::size_t{gridDim.x} * blockDim.x) {
    const float wanted = expected(call, side, what, i), found = side.out[i];
    wrong += what.type == DataType::int32 ? __float_as_int(found) != static_cast<int>(wanted) : found != wanted;
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

void launch_soak_fill(const SoakSide& side, const SoakCall& what, Stream stream) {
  const std::size_t in = what.in_count(side.ranks), out = what.out_count(side.ranks);
  fill<<<blocks_for(std::max(in, out)), threads, 0, stream>>>(side, what.type, in, out);
}
void launch_soak_check(const SoakSide& side, const SoakCall& what, Stream stream) {
  const std::size_t out = what.out_count(side.ranks);
  check<<<blocks_for(out), threads, 0, stream>>>(side, what, out);
}

}  // namespace collectives
