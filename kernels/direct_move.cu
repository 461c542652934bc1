// Moves, see direct_move.cuh.
#include "base/cuda.hpp"
#include "base/direct_shape.hpp"
#include "base/integers.hpp"
#include "base/require.hpp"
#include "kernels/direct_move.cuh"

namespace collectives::kernels {
namespace {

template <int N, int packs>
__global__ void __launch_bounds__(move_once_threads + 32, 1) move_once(const __grid_constant__ MoveArgs args) {
  MoveOnce<N, packs>(args).run();
}

template <int N>
__global__ void __launch_bounds__(streamed_move_threads(N) + 32, 1) move_streamed(const __grid_constant__ MoveArgs args) {
  __shared__ std::uint32_t progress[16];
  begin_progress(progress);
  MoveStreamed<N>(args, progress).run();
}

template <int N>
__global__ void __launch_bounds__(streamed_move_threads(N) + 32, 1) broadcast_streamed(const __grid_constant__ MoveArgs args) {
  __shared__ std::uint32_t progress[16];
  begin_progress(progress);
  BroadcastStreamed<N>(args, progress).run();
}

/// Of a call of one tile, in which a thread has this many packs.
template <int N>
void (*once_kernel([[maybe_unused]] int packs))(const MoveArgs) {
  if constexpr (move_once_packs(N) == 4) {
    if (packs > 1) return packs > 2 ? move_once<N, 4> : move_once<N, 2>;
  }
  return move_once<N, 1>;
}

}  // namespace

void launch_move(const MoveArgs& args, int blocks, int threads, Stream stream) {
  const int packs = static_cast<int>(divide_up(args.tile_packs, static_cast<std::uint32_t>(threads)));
  const bool once = !args.relays && !args.wide && args.tiles == 1 && packs <= move_once_packs(args.ranks);
  ensure(once ? threads <= move_once_threads : threads <= streamed_move_threads(args.ranks) && packs <= streamed_move_packs(args.ranks),
         "a move's tile has more packs than its threads can hold");
  with_ranks(args.ranks, [&]<int N>() {
    const auto kernel = args.relays ? broadcast_streamed<N> : once ? once_kernel<N>(packs) : move_streamed<N>;
    launch_kernel(kernel, args, blocks, threads + 32, stream, args.early && once);
  });
}

void preload_move(int ranks) {
  if (ranks < 2 || ranks > max_direct_ranks) return;
  cudaFuncAttributes attributes{};
  with_ranks(ranks, [&]<int N>() {
    for (int packs = 1; packs <= move_once_packs(N); packs *= 2) cuda_check(cudaFuncGetAttributes(&attributes, once_kernel<N>(packs)));
    cuda_check(cudaFuncGetAttributes(&attributes, move_streamed<N>));
    cuda_check(cudaFuncGetAttributes(&attributes, broadcast_streamed<N>));
  });
}

}  // namespace collectives::kernels
