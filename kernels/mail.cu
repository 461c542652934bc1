// Sends and receives.
#include <algorithm>

#include "base/cuda.hpp"
#include "kernels/mail_body.hpp"
#include "kernels/progress.cuh"

namespace collectives::kernels {
namespace {

struct MailBlock {
  static constexpr bool has_courier = false;

  __device__ std::uint32_t thread() const { return threadIdx.x; }
  __device__ std::uint32_t threads() const { return blockDim.x; }
  __device__ void sync() const { __syncthreads(); }
  __device__ bool any(bool own) const { return __syncthreads_or(own) != 0; }
};

/// Of as many threads as its tile has words: none of them has a second one.
struct CoveringMailBlock : MailBlock {
  __device__ std::uint32_t threads() const { return 0x80000000u; }
};

/// Its last warp moves nothing: it gives the credits, whose fence the others need not wait for.
struct CarriedMailBlock : CoveringMailBlock {
  static constexpr bool has_courier = true;

  __device__ static std::uint32_t workers() { return blockDim.x - 32; }
  __device__ static bool is_courier() { return threadIdx.x >= workers(); }
  __device__ static bool is_first_courier() { return threadIdx.x == workers(); }
  __device__ bool any_of_warp(bool own) const { return __any_sync(0xffffffffu, own) != 0; }
  __device__ void report(std::uint32_t tiles) const { report_progress(progress, tiles); }
  /// What all have reported, once that is `tiles` or `keep_waiting` says no.
  template <typename KeepWaiting>
  __device__ std::uint32_t await(std::uint32_t tiles, KeepWaiting keep_waiting) const {
    return least_of_warp(await_progress(progress, static_cast<int>(workers()) / 32, tiles, keep_waiting));
  }

  std::uint32_t* progress;
};

/// Lane after lane, in ascending order as at the other end: the lowest that is unfinished has a block at both ends.
template <typename Body>
__device__ void for_each_lane(const MailQueue& queue, Body body) {
  for (int lane = static_cast<int>(blockIdx.x) - queue.first_block; lane < queue.lanes; lane += queue.blocks)
    if (!body(lane)) return;
}

template <typename Wire>
__device__ void carry(const MailHead& head, const MailQueue& queue, const MessageArgs* messages) {
  for_each_lane(queue, [&](int lane) {
    MailLane<AnyMail, Wire, MailBlock, NoRelief> mail(head, queue, messages, lane, MailBlock{}, NoRelief{});
    while (!mail.done() && !mail.failed()) mail.move();
    return mail.finish();
  });
}

__global__ void __launch_bounds__(max_mail_threads, 1) mail_any(const __grid_constant__ MailArgs call) {
  int q = 0;
  while (q + 1 < call.queues && blockIdx.x >= call.queue[q + 1].first_block) ++q;
  const MailQueue& queue = call.queue[q];
  const MessageArgs* messages = call.message + queue.first;
  queue.escaped ? carry<EscapedWire>(call, queue, messages) : carry<FlaggedWire<std::uint8_t>>(call, queue, messages);
}

/// What most calls are: no more than a send and a receive. Arguments come from memory when a kernel starts; so few come at once.
using PairCall = MailCall<2, 2>;

__device__ int queue_of_block(const PairCall& call) { return call.queues > 1 && blockIdx.x >= call.queue[1].first_block ? 1 : 0; }

__global__ void __launch_bounds__(max_mail_threads + 32, 1) mail_pair(const __grid_constant__ PairCall call) {
  __shared__ std::uint32_t progress[most_reporting_warps];
  const int q = queue_of_block(call);
  const MailQueue& queue = call.queue[q];
  for_each_lane(queue, [&](int lane) {
    if (threadIdx.x < most_reporting_warps) progress[threadIdx.x] = 0;
    __syncthreads();
    const CarriedMailBlock block{.progress = progress};
    MailLane<PlainMail, EscapedWire, CarriedMailBlock, NoRelief> mail(call, queue, call.message + q, lane, block, NoRelief{});
    if (!block.is_courier())
      while (!mail.done() && !mail.failed()) mail.move();
    else if (!queue.sends)
      mail.carry_credits();
    return mail.finish();
  });
}

/// A block for each lane, which has one tile.
__global__ void __launch_bounds__(max_mail_threads, 1) mail_once(const __grid_constant__ PairCall call) {
  const int q = queue_of_block(call);
  const MailQueue& queue = call.queue[q];
  const int lane = static_cast<int>(blockIdx.x) - queue.first_block;
  MailLane<SingleMail, EscapedWire, CoveringMailBlock, NoRelief> mail(call, queue, call.message + q, lane, CoveringMailBlock{}, NoRelief{});
  mail.move();
  mail.finish();
}

template <typename Predicate>
bool all_queues(const MailArgs& args, Predicate predicate) {
  for (int q = 0; q < args.queues; ++q)
    if (!predicate(args.queue[q], args.message + args.queue[q].first)) return false;
  return true;
}

/// A send and a receive at most, of whole packs in tiles that the threads of a block cover.
bool is_pair(const MailArgs& args) {
  return args.queues <= 2 && all_queues(args, [&](const MailQueue& queue, const MessageArgs* messages) {
    return queue.count == 1 && queue.escaped && is_plain(queue, messages) && messages[0].tile_packs <= std::uint32_t{packs_a_word} * args.threads;
  });
}

bool is_once(const MailArgs& args) {
  return all_queues(args, [&](const MailQueue& queue, const MessageArgs* messages) { return is_single(args, queue, messages) && queue.blocks == queue.lanes; });
}

}  // namespace

void launch_mail(const MailArgs& args, Stream stream) {
  if (is_pair(args)) {
    PairCall call{};
    static_cast<MailHead&>(call) = args;
    std::copy_n(args.queue, args.queues, call.queue);
    std::copy_n(args.message, args.queues, call.message);
    is_once(args) ? mail_once<<<args.blocks, args.threads, 0, stream>>>(call) : mail_pair<<<args.blocks, args.threads + 32, 0, stream>>>(call);
  } else {
    mail_any<<<args.blocks, args.threads, 0, stream>>>(args);
  }
  cuda_check(cudaGetLastError());
}

void preload_mail() {
  cudaFuncAttributes attributes{};
  cuda_check(cudaFuncGetAttributes(&attributes, mail_once));
  cuda_check(cudaFuncGetAttributes(&attributes, mail_pair));
  cuda_check(cudaFuncGetAttributes(&attributes, mail_any));
}

}  // namespace collectives::kernels
