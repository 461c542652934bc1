// What multiprocessors do for copy engines.
#include "kernels/copy.hpp"

#include <type_traits>

#include "base/cuda.hpp"
#include "base/require.hpp"
#include "kernels/copy_body.hpp"
#include "kernels/dispatch.hpp"

namespace collectives::kernels {
namespace {

constexpr int peer_threads = 32;  // a thread a peer
static_assert(peer_threads >= max_ranks);

struct PeerGroup {
  __device__ int thread() const { return static_cast<int>(threadIdx.x); }
  __device__ int threads() const { return static_cast<int>(blockDim.x); }
  __device__ void sync() const { __syncthreads(); }
};

struct GridGroup {
  __device__ int thread() const { return static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); }
  __device__ int threads() const { return static_cast<int>(gridDim.x * blockDim.x); }
};

__global__ void __launch_bounds__(peer_threads) copy_open(const __grid_constant__ CopyCallArgs args) {
  CopySync<PeerGroup, NoRelief>(args, PeerGroup{}, NoRelief{}).open();
}

__global__ void __launch_bounds__(peer_threads) copy_meet(const __grid_constant__ CopyCallArgs args, const __grid_constant__ CopyMeeting meeting) {
  CopySync<PeerGroup, NoRelief>(args, PeerGroup{}, NoRelief{}).meet(meeting);
}

template <typename T, typename Op>
__global__ void __launch_bounds__(512, 1) copy_sum(const __grid_constant__ CopySumArgs args) {
  Op op{};
  if constexpr (std::is_same_v<Op, AnyOp>) op.op = args.op;
  CopySum<T, Op, GridGroup>(args, op, GridGroup{}).run();
}

}  // namespace

void launch_copy_open(const CopyCallArgs& args, Stream stream) {
  copy_open<<<1, peer_threads, 0, stream>>>(args);
  cuda_check(cudaGetLastError());
}

void launch_copy_meet(const CopyCallArgs& args, const CopyMeeting& meeting, Stream stream) {
  copy_meet<<<1, peer_threads, 0, stream>>>(args, meeting);
  cuda_check(cudaGetLastError());
}

void launch_copy_sum(const CopySumArgs& args, DataType type, int blocks, int threads, Stream stream) {
  dispatch(type, args.op == ReduceOp::sum, [&]<typename T, typename Op>() { copy_sum<T, Op><<<blocks, threads, 0, stream>>>(args); });
  cuda_check(cudaGetLastError());
}

void preload_copy() {
  cudaFuncAttributes attributes{};
  cuda_check(cudaFuncGetAttributes(&attributes, copy_open));
  cuda_check(cudaFuncGetAttributes(&attributes, copy_meet));
  for (int type = 0; type < data_type_count; ++type)
    for (const bool sum : {true, false})
      dispatch(static_cast<DataType>(type), sum, [&]<typename T, typename Op>() { cuda_check(cudaFuncGetAttributes(&attributes, copy_sum<T, Op>)); });
}

}  // namespace collectives::kernels
