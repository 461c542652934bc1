// Rank count as a template parameter: on 4x H200 (CUDA 13.0) the general kernel takes 5.7 us for 8 KB, where one whose loops
// over ranks are unrolled takes 3.2 us.
#include "kernels/direct.hpp"

#include <algorithm>

#include "base/cuda.hpp"
#include "base/require.hpp"
#include "kernels/direct_once.cuh"
#include "kernels/direct_pair.cuh"
#include "kernels/direct_phased.cuh"
#include "kernels/direct_streamed.cuh"
#include "kernels/programmatic.cuh"

namespace collectives::kernels {
namespace {

constexpr int most_threads = 512;
constexpr int most_streaming_threads = 480;  // more would not leave each the registers it needs

template <typename T, int N, bool two_shot>
__global__ void __launch_bounds__(most_threads + 32, 1) direct_once(const __grid_constant__ DirectArgs args) {
  DirectOnce<T, N, two_shot>(args).run();
}

template <typename T, bool scatters>
__global__ void __launch_bounds__(most_threads + 32, 1) direct_pair(const __grid_constant__ DirectArgs args) {
  DirectPair<T, scatters>(args).run();
}

template <typename T, int N>
__global__ void __launch_bounds__(most_threads + 32, 1) direct_phased(const __grid_constant__ DirectArgs args) {
  DirectPhased<T, N>(args).run();
}

template <typename T, int N, bool two_shot>
__global__ void __launch_bounds__(most_streaming_threads + 32, 1) direct_streamed(const __grid_constant__ DirectArgs args) {
  __shared__ std::uint32_t progress[16];
  begin_progress(progress);
  DirectStreamed<T, N, two_shot>(args, progress).run();
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

template <typename T, int N, bool two_shot>
void (*kernel_for(const DirectArgs& args, int threads))(DirectArgs) {
  const bool known_chunks = args.even || !two_shot || takes_uneven_chunks(N);
  if (!args.plain || !known_chunks || args.tiles != args.stages) return direct_streamed<T, N, two_shot>;
  const auto workers = static_cast<std::uint32_t>(threads);
  // A wide call may have one tile too, where a small pool's half does not hold it.
  if (args.tiles == 1 && !args.wide && args.tile_packs <= workers) return direct_once<T, N, two_shot>;
  if constexpr (N == 2)
    if (args.even && !args.wide && args.tile_packs <= pair_packs * workers && !(two_shot && args.gathers)) return direct_pair<T, two_shot>;
  if constexpr (two_shot && has_phased(N))
    if (args.tile_packs <= workers) return direct_phased<T, N>;
  return direct_streamed<T, N, two_shot>;
}

// Which of the kernels runs is each rank's own business: its peers see the same packs in the same slots.
template <bool two_shot>
void launch(const DirectArgs& args, DataType type, int blocks, int threads, Stream stream) {
  with_type(type, [&]<typename T>() {
    with_ranks(args.ranks, [&]<int N>() {
      const auto kernel = kernel_for<T, N, two_shot>(args, threads);
      const int workers = kernel == direct_streamed<T, N, two_shot> ? std::min(threads, most_streaming_threads) : threads;
      launch_kernel(kernel, args, blocks, workers + 32, stream, args.early && kernel == direct_once<T, N, two_shot>);
    });
  });
}

}  // namespace

void launch_one_shot(const DirectArgs& args, DataType type, int blocks, int threads, Stream stream) {
  launch<false>(args, type, blocks, threads, stream);
}
void launch_two_shot(const DirectArgs& args, DataType type, int blocks, int threads, Stream stream) {
  launch<true>(args, type, blocks, threads, stream);
}

bool can_begin_early() {
  cudaFuncAttributes attributes{};
  cuda_check(cudaFuncGetAttributes(&attributes, direct_once<float, 2, false>));
  return attributes.ptxVersion >= 90;
}

void preload_direct(int ranks) {
  if (ranks < 2 || ranks > max_direct_ranks) return;
  const auto load = [](auto... kernels) {
    cudaFuncAttributes attributes{};
    (cuda_check(cudaFuncGetAttributes(&attributes, kernels)), ...);
  };
  for (const auto type : {DataType::float32, DataType::float16, DataType::bfloat16})
    with_type(type, [&]<typename T>() {
      with_ranks(ranks, [&]<int N>() {
        load(direct_once<T, N, false>, direct_once<T, N, true>, direct_streamed<T, N, false>, direct_streamed<T, N, true>);
        if constexpr (N == 2) load(direct_pair<T, false>, direct_pair<T, true>);
        if constexpr (has_phased(N)) load(direct_phased<T, N>);
      });
    });
}

}  // namespace collectives::kernels
