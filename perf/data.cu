#include <cuda_runtime.h>

#include "perf/data_cuda.hpp"

namespace perf {
namespace {

constexpr int block_threads = 256;

int blocks_for(std::size_t count) {
  const std::size_t wanted = (count + block_threads - 1) / block_threads;
  return static_cast<int>(wanted < 1024 ? wanted : 1024);
}

__device__ std::size_t first_index() { return blockIdx.x * static_cast<std::size_t>(blockDim.x) + threadIdx.x; }
__device__ std::size_t index_stride() { return gridDim.x * static_cast<std::size_t>(blockDim.x); }

template <typename Word>
__global__ void fill_kernel(Word* data, std::size_t count, Payload payload, int rank) {
  for (std::size_t i = first_index(); i < count; i += index_stride()) data[i] = static_cast<Word>(bits_of(payload, rank, i));
}

template <typename Word>
__global__ void wrong_kernel(const Word* data, std::size_t count, Payload payload, int rank, unsigned long long* total) {
  unsigned long long wrong = 0;
  for (std::size_t i = first_index(); i < count; i += index_stride()) wrong += data[i] != static_cast<Word>(bits_of(payload, rank, i));
  if (wrong != 0) atomicAdd(total, wrong);
}

__global__ void altered_kernel(const std::uint8_t* data, std::size_t bytes, std::uint8_t value, unsigned long long* total) {
  unsigned long long altered = 0;
  for (std::size_t i = first_index(); i < bytes; i += index_stride()) altered += data[i] != value;
  if (altered != 0) atomicAdd(total, altered);
}

template <typename Body>
void with_word(DataType type, Body&& body) {
  switch (collectives::size_of(type)) {
    case 1:
      return body(std::uint8_t{});
    case 2:
      return body(std::uint16_t{});
    case 4:
      return body(std::uint32_t{});
    default:
      return body(std::uint64_t{});
  }
}

}  // namespace

int launch_fill(void* data, std::size_t count, const Payload& payload, int rank, collectives::Stream stream) {
  if (count == 0) return cudaSuccess;
  with_word(payload.type, [&]<typename Word>(Word) {
    fill_kernel<Word><<<blocks_for(count), block_threads, 0, stream>>>(static_cast<Word*>(data), count, payload, rank);
  });
  return cudaGetLastError();
}

int launch_count_wrong(const void* data, std::size_t count, const Payload& payload, int rank, unsigned long long* total,
                       collectives::Stream stream) {
  if (count == 0) return cudaSuccess;
  with_word(payload.type, [&]<typename Word>(Word) {
    wrong_kernel<Word><<<blocks_for(count), block_threads, 0, stream>>>(static_cast<const Word*>(data), count, payload, rank, total);
  });
  return cudaGetLastError();
}

int launch_count_altered(const void* data, std::size_t bytes, std::uint8_t value, unsigned long long* total, collectives::Stream stream) {
  if (bytes == 0) return cudaSuccess;
  altered_kernel<<<blocks_for(bytes), block_threads, 0, stream>>>(static_cast<const std::uint8_t*>(data), bytes, value, total);
  return cudaGetLastError();
}

}  // namespace perf
