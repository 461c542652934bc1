#pragma once

#include "base/require.hpp"
#include "kernels/direct.hpp"
#include "kernels/operand.hpp"
#include "kernels/watch.hpp"
#include "kernels/wire.hpp"

// What all direct calls share. The phases of an all-reduce: one-shot pushes its input to everyone, then reduces everyone's;
// two-shot scatters each chunk to its owner, reduces its own chunk and pushes it to everyone, then gathers the other chunks. A
// reduce-scatter is the first half of two-shot; what only moves is one-shot without the reduction.
// Pack p of a chunk belongs to the same thread on every rank and in every phase: no barrier between phases, no fence.
// One-shot sends (N-1) M, two-shot 2 (N-1)/N M a rank.
//
// Peers are counted from this rank on: peer k, from 1 to N-1, is rank + k modulo N, and chunk k is its chunk. While all ranks
// send to their peers in this order and in step, no receiver is swamped. Operands wait for their sum in lanes in ascending
// order of rank, without this rank's own; gathered chunks in lanes in the order of peers.
//
// The instructions of a small call come from memory, and nothing hides them: all addresses that the host can work out are
// arguments.
namespace collectives::kernels {

/// Of N ranks, or if not `exact` of fewer too.
template <typename Args, typename Wire, int N, bool exact = true>
class DirectCall {
 public:
  __device__ explicit DirectCall(const Args& args) : args_(args), watch_(args, args.pools, NoRelief{}) {}

 protected:
  __device__ unsigned workers() const { return blockDim.x - 32; }
  /// The last warp of a block moves no data. In block 0 it tells the peers what this call is and waits for what they say.
  __device__ bool is_courier() const { return threadIdx.x >= workers(); }
  __device__ int lane() const { return static_cast<int>(threadIdx.x) % 32; }
  __device__ int ranks() const { return ranks_of(args_); }
  static __device__ int ranks_of(const Args& args) { return exact ? N : args.ranks; }
  __device__ bool has_peer() const { return lane() < ranks() && lane() != args_.rank; }

  /// Which call this is, and whether the one before was wide.
  __device__ Turn turn() const { return {observe_relaxed(&args_.own->next)}; }
  __device__ void begin(Turn turn, bool wide) {
    watch_.begin(turn.epoch());
    half_ = !wide && (turn.epoch() & 1u) != 0 ? args_.half_packs : 0;
  }

  /// A call that uses slots of the call before, or the other way round: all must have finished that one.
  __device__ void await_all(bool needed) {
    if (!needed) return;
    await_headers(args_, watch_.epoch());
    __syncthreads();
  }
  __device__ void announce() {
    if (!is_courier() || blockIdx.x != 0 || !has_peer()) return;
    args_.in_device_memory ? watch_.announce_unfenced(lane()) : watch_.announce(lane());
  }
  /// By one warp; all may. A function of its own, so that a small call's code is one straight piece; what it finds wrong is
  /// found again by whoever waits for what will not come.
  static __device__ __noinline__ void await_headers(const Args& args, Epoch epoch) {
    const int peer = static_cast<int>(threadIdx.x) % 32;
    if (peer >= ranks_of(args) || peer == args.rank) return;
    Watch<NoRelief, Args> watch(args, args.pools, NoRelief{});
    watch.begin(epoch);
    watch.await_header(peer);
  }

  /// Once a block has read the epoch it adds its share to it. By all threads of a block, of which only the courier waits for the others: where
  /// all do, no warp looks for anything before the stores of every other have left the multiprocessor.
  __device__ void advance_epoch(Turn turn, bool wide) {
    if (!is_courier()) return arrive_at_courier();
    await_workers();
    if (threadIdx.x != workers()) return;
    Mark& next = args_.own->next;
    const Mark step = turn.step(blockIdx.x == 0, args_.epoch_share, gridDim.x, wide);
    gridDim.x == 1 ? signal_relaxed(&next, turn.word + step) : add_local(&next, step);  // 0.1 us less, where nobody else adds
  }

  /// What a warp has read and written before it arrives the courier finds done when it has waited.
  static __device__ void arrive_at_courier() { asm volatile("bar.arrive 1, %0;" ::"r"(blockDim.x) : "memory"); }
  static __device__ void await_workers() { asm volatile("bar.sync 1, %0;" ::"r"(blockDim.x) : "memory"); }

  /// Where peer k finds the operands that this rank sends it, and where the chunks; `p` counts within a lane.
  __device__ Pack* operands_at(int k, std::uint32_t p) const { return args_.operands[k - 1] + (half_ + p); }
  __device__ Pack* chunks_at(int k, std::uint32_t p) const { return args_.chunks[k - 1] + (half_ + p); }
  /// The same in this rank's own pool: operands by lane, from 0 to N-2; chunks by peer, from 1 to N-1.
  __device__ Pack* operand_slot(int l, std::uint32_t p) const { return args_.slots + (half_ + l * args_.lane_packs + p); }
  __device__ Pack* chunk_slot(int k, std::uint32_t p) const { return operand_slot(ranks() - 2 + k, p); }

  /// Polls count packs, all at once, until every word of those that `wanted(i)` has come.
  template <int count, typename Slot, typename Wanted>
  __device__ void poll(Pack (&pack)[count], Slot slot, Wanted wanted) {
#pragma unroll
    for (int i = 0; i < count; ++i)
      if (wanted(i)) pack[i] = Wire::load(slot(i));
    for (bool all = false; !all;) {
      all = true;
#pragma unroll
      for (int i = 0; i < count; ++i)
        if (wanted(i) && !Wire::arrived(pack[i])) {
          pack[i] = Wire::load(slot(i));
          all = false;
        }
      if (!all && !watch_.keep_waiting()) return;
    }
  }

  const Args& args_;
  std::uint32_t half_ = 0;  ///< where this call's slots begin, in packs behind those of the first half: a sum of 32 bits is an instruction
  Watch<NoRelief, Args> watch_;
};

/// Calls with the rank count as a template argument.
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

/// One of two packs, word by word: choosing between the arrays that hold them would put the arrays in memory.
__device__ __forceinline__ Pack choose(bool first, Pack a, Pack b) {
#pragma unroll
  for (int i = 0; i < 4; ++i) b.word[i] = first ? static_cast<std::uint32_t>(a.word[i]) : static_cast<std::uint32_t>(b.word[i]);
  return b;
}

/// The sum of N operands in ascending order of rank, this rank's own among them; operand(l) is what lane l brought.
template <typename T, int N, typename Operand>
__device__ __forceinline__ Pack sum_in_order(int rank, const Pack& mine, Operand operand) {
  Accumulators<T> sum = unpack<T>(choose(rank == 0, mine, operand(0)));
#pragma unroll
  for (int from = 1; from < N; ++from) {
    const Pack below = from < N - 1 ? operand(from) : operand(N - 2);
    const Pack other = choose(from < rank, below, operand(from - 1));
    accumulate<T>(sum, choose(from == rank, mine, other), SumOnly{});
  }
  return round<T>(sum, 1);
}

}  // namespace collectives::kernels
