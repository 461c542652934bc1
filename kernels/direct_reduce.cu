// Reductions over the escaped wire, see direct_reduce.cuh.
#include "base/cuda.hpp"
#include "base/direct_shape.hpp"
#include "base/require.hpp"
#include "kernels/direct_reduce.cuh"
#include "kernels/programmatic.cuh"

namespace collectives::kernels {
namespace {

constexpr int most_exact_ranks = 4;  // more of them share a kernel, for its code is long

template <int N>
__global__ void __launch_bounds__(reduced_threads(N) + 32, 1) reduce_streamed(const __grid_constant__ ReduceArgs args) {
  __shared__ std::uint32_t progress[16];
  begin_progress(progress);
  ReduceStreamed<N, N <= most_exact_ranks>(args, progress).run();
}

auto kernel_for(int ranks) {
  switch (ranks) {
    case 2: return reduce_streamed<2>;
    case 3: return reduce_streamed<3>;
    case 4: return reduce_streamed<4>;
    default: return reduce_streamed<max_direct_ranks>;
  }
}

}  // namespace

void launch_reduce(const ReduceArgs& args, int blocks, int threads, Stream stream) {
  ensure(args.ranks >= 2 && args.ranks <= max_direct_ranks, "the direct kernels are for 2 to 8 ranks");
  ensure(threads <= reduced_threads(args.ranks) && args.tile_packs <= static_cast<std::uint32_t>(threads * reduced_packs(args.ranks)),
         "a reduction's tile has more packs than its threads can hold");
  launch_kernel(kernel_for(args.ranks), args, blocks, threads + 32, stream, false);
}

void preload_reduce(int ranks) {
  if (ranks < 2 || ranks > max_direct_ranks) return;
  cudaFuncAttributes attributes{};
  cuda_check(cudaFuncGetAttributes(&attributes, kernel_for(ranks)));
}

}  // namespace collectives::kernels
