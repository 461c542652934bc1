#include "kernels/local.hpp"

#include "base/cuda.hpp"
#include "base/require.hpp"

namespace collectives::kernels {
namespace {

template <typename Word>
__global__ void local_fill(Word* out, std::size_t count, Word value) {
  const std::size_t stride = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  for (std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) out[i] = value;
}

template <typename Call>
void with_word(int size, Call call) {
  switch (size) {
    case 1: return call.template operator()<std::uint8_t>();
    case 2: return call.template operator()<std::uint16_t>();
    case 4: return call.template operator()<std::uint32_t>();
    case 8: return call.template operator()<std::uint64_t>();
    default: ensure(false, "an element has 1, 2, 4 or 8 bytes");
  }
}

}  // namespace

void launch_local_fill(void* out, std::size_t count, std::uint64_t bits, int size, Stream stream) {
  if (count == 0) return;
  constexpr std::size_t threads = 256, most_blocks = 256;
  const std::size_t wanted = (count + threads - 1) / threads;
  const auto blocks = static_cast<unsigned>(wanted < most_blocks ? wanted : most_blocks);
  with_word(size, [&]<typename Word>() { local_fill<Word><<<blocks, threads, 0, stream>>>(static_cast<Word*>(out), count, static_cast<Word>(bits)); });
  cuda_check(cudaGetLastError());
}

void preload_local() {
  for (const int size : {1, 2, 4, 8})
    with_word(size, [&]<typename Word>() {
      cudaFuncAttributes attributes{};
      cuda_check(cudaFuncGetAttributes(&attributes, local_fill<Word>));
    });
}

}  // namespace collectives::kernels
