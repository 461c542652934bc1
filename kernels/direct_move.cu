// Moves, see direct_move.cuh.
#include "base/cuda.hpp"
#include "base/move_shape.hpp"
#include "base/require.hpp"
#include "kernels/direct_move.cuh"

namespace collectives::kernels {
namespace {

template <int N>
__global__ void __launch_bounds__(544, 1) move_once(const __grid_constant__ MoveArgs args) {
  MoveOnce<N>(args).run();
}

template <int N>
__global__ void __launch_bounds__(streamed_move_threads(N) + 32, 1) move_streamed(const __grid_constant__ MoveArgs args) {
  __shared__ std::uint32_t progress[16];
  if (threadIdx.x % 32 == 0) progress[threadIdx.x / 32] = 0;
  // By the warp whose word it is; the courier reads them when it has waited for all.
  MoveStreamed<N>(args, progress).run();
}

template <int N>
__global__ void __launch_bounds__(streamed_move_threads(N) + 32, 1) broadcast_streamed(const __grid_constant__ MoveArgs args) {
  __shared__ std::uint32_t progress[16];
  if (threadIdx.x % 32 == 0) progress[threadIdx.x / 32] = 0;
  BroadcastStreamed<N>(args, progress).run();
}

}  // namespace

void launch_move(const MoveArgs& args, int blocks, int threads, Stream stream) {
  const bool once = !args.relays && args.tiles == 1 && args.tile_packs <= static_cast<std::uint32_t>(threads);
  ensure(once || (threads <= streamed_move_threads(args.ranks) && args.tile_packs <= static_cast<std::uint32_t>(threads * streamed_move_packs(args.ranks))),
         "a streamed move's tile has more packs than its threads can hold");
  with_ranks(args.ranks, [&]<int N>() {
    const auto kernel = args.relays ? broadcast_streamed<N> : once ? move_once<N> : move_streamed<N>;
    kernel<<<blocks, threads + 32, 0, stream>>>(args);
  });
  cuda_check(cudaGetLastError());
}

void preload_move(int ranks) {
  if (ranks < 2 || ranks > max_direct_ranks) return;
  cudaFuncAttributes attributes{};
  with_ranks(ranks, [&]<int N>() {
    cuda_check(cudaFuncGetAttributes(&attributes, move_once<N>));
    cuda_check(cudaFuncGetAttributes(&attributes, move_streamed<N>));
    cuda_check(cudaFuncGetAttributes(&attributes, broadcast_streamed<N>));
  });
}

}  // namespace collectives::kernels
