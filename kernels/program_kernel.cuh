#pragma once

#include <type_traits>

#include "base/cuda.hpp"
#include "base/require.hpp"
#include "kernels/program_body.hpp"

namespace collectives::kernels {

/// A thread block.
struct DeviceGroup {
  __device__ int thread() const { return static_cast<int>(threadIdx.x); }
  __device__ int threads() const { return static_cast<int>(blockDim.x); }
  __device__ int block() const { return static_cast<int>(blockIdx.x); }
  __device__ int blocks() const { return static_cast<int>(gridDim.x); }
  __device__ void sync() const { __syncthreads(); }
};

template <typename T, typename Op, template <typename> typename Wire>
__global__ void __launch_bounds__(512, 1) program_kernel(const __grid_constant__ ProgramArgs args) {
  Op op{};
  if constexpr (std::is_same_v<Op, AnyOp>) op.op = args.op;
  Walk<T, Op, Wire<T>, DeviceGroup, NoRelief>(args, op, DeviceGroup{}, NoRelief{}).run();
}

template <typename T, typename Op, template <typename> typename Wire>
void launch_program(const ProgramArgs& args, int blocks, int threads, Stream stream) {
  program_kernel<T, Op, Wire><<<blocks, threads, 0, stream>>>(args);
  cuda_check(cudaGetLastError());
}

template <typename T, typename Op, template <typename> typename Wire>
void preload_program() {
  cudaFuncAttributes attributes{};
  cuda_check(cudaFuncGetAttributes(&attributes, program_kernel<T, Op, Wire>));
}

}  // namespace collectives::kernels
