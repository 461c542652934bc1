// Sends and receives.
#include <algorithm>

#include "base/cuda.hpp"
#include "kernels/mail_body.hpp"

namespace collectives::kernels {
namespace {

struct MailBlock {
  __device__ std::uint32_t thread() const { return threadIdx.x; }
  __device__ std::uint32_t threads() const { return blockDim.x; }
  __device__ void sync() const { __syncthreads(); }
  __device__ bool any(bool own) const { return __syncthreads_or(own) != 0; }
};

/// Of as many threads as its tile has words: none of them has a second one.
struct CoveringMailBlock : MailBlock {
  __device__ std::uint32_t threads() const { return 0x80000000u; }
};

/// Lane after lane, in ascending order as at the other end: the lowest that is unfinished has a block at both ends.
template <typename Form, typename Wire>
__device__ void carry(const MailHead& head, const MailQueue& queue, const MessageArgs* messages) {
  for (int lane = static_cast<int>(blockIdx.x) - queue.first_block; lane < queue.lanes; lane += queue.blocks) {
    MailLane<Form, Wire, MailBlock, NoRelief> mail(head, queue, messages, lane, MailBlock{}, NoRelief{});
    while (!mail.done() && !mail.failed()) mail.move();
    if (!mail.finish()) return;
  }
}

__global__ void __launch_bounds__(max_mail_threads, 1) mail_any(const __grid_constant__ MailArgs call) {
  int q = 0;
  while (q + 1 < call.queues && blockIdx.x >= call.queue[q + 1].first_block) ++q;
  const MailQueue& queue = call.queue[q];
  const MessageArgs* messages = call.message + queue.first;
  queue.escaped ? carry<AnyMail, EscapedWire>(call, queue, messages) : carry<AnyMail, FlaggedWire<std::uint8_t>>(call, queue, messages);
}

/// What most calls are: no more than a send and a receive. Arguments come from memory when a kernel starts; so few come at once.
using PairCall = MailCall<2, 2>;

__device__ int queue_of_block(const PairCall& call) { return call.queues > 1 && blockIdx.x >= call.queue[1].first_block ? 1 : 0; }

__global__ void __launch_bounds__(max_mail_threads, 1) mail_pair(const __grid_constant__ PairCall call) {
  const int q = queue_of_block(call);
  carry<PlainMail, EscapedWire>(call, call.queue[q], call.message + q);
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

bool is_pair(const MailArgs& args) {
  return args.queues <= 2 && all_queues(args, [](const MailQueue& queue, const MessageArgs* messages) { return queue.count == 1 && queue.escaped && is_plain(queue, messages); });
}

bool is_once(const MailArgs& args) {
  return all_queues(args, [&](const MailQueue& queue, const MessageArgs* messages) {
    return is_single(args, queue, messages) && queue.blocks == queue.lanes && messages[0].tile_packs <= std::uint32_t{packs_a_word} * args.threads;
  });
}

}  // namespace

void launch_mail(const MailArgs& args, Stream stream) {
  if (is_pair(args)) {
    PairCall call{};
    static_cast<MailHead&>(call) = args;
    std::copy_n(args.queue, args.queues, call.queue);
    std::copy_n(args.message, args.queues, call.message);
    const auto kernel = is_once(args) ? mail_once : mail_pair;
    kernel<<<args.blocks, args.threads, 0, stream>>>(call);
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
