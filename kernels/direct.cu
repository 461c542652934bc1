// Rank count as a template parameter: on 4x H200 (CUDA 13.0) the general kernel takes 5.7 us for 8 KB, where one whose loops
// over ranks are unrolled takes 3.2 us.
#include "kernels/direct.hpp"

#include "base/cuda.hpp"
#include "base/require.hpp"
#include "kernels/direct_body.cuh"

namespace collectives::kernels {
namespace {

template <typename T, int N, bool two_shot>
__global__ void __launch_bounds__(512, 1) direct_kernel(const __grid_constant__ DirectArgs args) {
  __shared__ std::uint32_t progress[16];
  if (threadIdx.x < 16) progress[threadIdx.x] = 0;
  // Seen by all before first use: the barrier after the first pushes comes between.
  Direct<T, SumOnly, N, two_shot>(args, progress).run();
}

template <typename Call>
void with_type(DataType type, Call call) {
  switch (type) {
    case DataType::float32: return call.template operator()<float>();
    case DataType::float16: return call.template operator()<Half>();
    case DataType::bfloat16: return call.template operator()<BFloat16>();
    default: ensure(false, "the direct kernels carry float, half and bfloat16 only");
  }
}

template <typename Call>
void with_ranks(int ranks, Call call) {
  switch (ranks) {
    case 2: return call.template operator()<2>();
    case 3: return call.template operator()<3>();
    case 4: return call.template operator()<4>();
    case 5: return call.template operator()<5>();
    case 6: return call.template operator()<6>();
    case 7: return call.template operator()<7>();
    case 8: return call.template operator()<8>();
    default: ensure(false, "the direct kernels are for 2 to 8 ranks");
  }
}

template <bool two_shot>
void launch(const DirectArgs& args, DataType type, int blocks, int threads, Stream stream) {
  with_type(type, [&]<typename T>() {
    with_ranks(args.ranks, [&]<int N>() { direct_kernel<T, N, two_shot><<<blocks, threads + 32, 0, stream>>>(args); });
  });
  cuda_check(cudaGetLastError());
}

}  // namespace

void launch_one_shot(const DirectArgs& args, DataType type, int blocks, int threads, Stream stream) {
  launch<false>(args, type, blocks, threads, stream);
}
void launch_two_shot(const DirectArgs& args, DataType type, int blocks, int threads, Stream stream) {
  launch<true>(args, type, blocks, threads, stream);
}

void preload_direct(int ranks) {
  if (ranks > max_direct_ranks) return;
  const auto load = [&]<typename T, int N>() {
    cudaFuncAttributes attributes{};
    cuda_check(cudaFuncGetAttributes(&attributes, direct_kernel<T, N, false>));
    cuda_check(cudaFuncGetAttributes(&attributes, direct_kernel<T, N, true>));
  };
  for (const auto type : {DataType::float32, DataType::float16, DataType::bfloat16})
    with_type(type, [&]<typename T>() { with_ranks(ranks, [&]<int N>() { load.template operator()<T, N>(); }); });
}

}  // namespace collectives::kernels
