// Sends and receives.
#include "base/cuda.hpp"
#include "kernels/mail_body.hpp"

namespace collectives::kernels {
namespace {

constexpr int threads = 256;

struct MailBlock {
  __device__ int thread() const { return static_cast<int>(threadIdx.x); }
  __device__ int threads() const { return static_cast<int>(blockDim.x); }
  __device__ void sync() const { __syncthreads(); }
};

__global__ void __launch_bounds__(threads) mail_kernel(const __grid_constant__ MailArgs args) {
  int q = 0;
  while (q + 1 < args.queues && blockIdx.x >= args.queue[q + 1].first_block) ++q;
  const MailQueue& queue = args.queue[q];
  MailLane<MailBlock, NoRelief> lane(args, queue, static_cast<int>(blockIdx.x) - queue.first_block, MailBlock{}, NoRelief{});
  while (!lane.done()) {
    if (threadIdx.x == 0)
      while (!lane.ready() && lane.keep_waiting()) {
      }
    if (__syncthreads_or(lane.failed())) return;
    lane.move();
  }
}

}  // namespace

void launch_mail(const MailArgs& args, Stream stream) {
  mail_kernel<<<args.blocks, threads, 0, stream>>>(args);
  cuda_check(cudaGetLastError());
}

void preload_mail() {
  cudaFuncAttributes attributes{};
  cuda_check(cudaFuncGetAttributes(&attributes, mail_kernel));
}

}  // namespace collectives::kernels
