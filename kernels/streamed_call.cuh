#pragma once

#include "kernels/direct_call.cuh"
#include "kernels/progress.cuh"

// A direct call of many tiles: a block walks them in iterations, one step each.
//
// When a message has more tiles than a slot row has stages, the courier collects the progress of the other warps and
// publishes it to the peers as credit: at iteration i a slot written at iteration i - stages is free once every peer to
// which this rank sends has finished the iteration that emptied it, i + 1 - stages. Such a call is wide: it waits for everybody's header first, which
// proves that all have finished the call before, and then has both halves of the slots to itself; the next call waits likewise.
namespace collectives::kernels {

/// A step that is `large` is there once, else the compiler has the first apart, in which most of a step has nothing to do.
template <typename Args, typename Wire, int N, bool large = false, bool exact = true>
class StreamedCall : protected DirectCall<Args, Wire, N, exact> {
  using Base = DirectCall<Args, Wire, N, exact>;

 public:
  __device__ StreamedCall(const Args& args, std::uint32_t* progress) : Base(args), progress_(progress) {}

 protected:
  using Base::args_;
  using Base::watch_;

  /// `gives` says that this lane's peer writes into slots which this rank empties, and is given credit for them.
  template <typename Step>
  __device__ void run(int iterations, bool gives, Step step) {
    iterations_ = iterations;
    const Turn turn = this->turn();
    this->begin(turn, args_.wide);
    this->announce();
    this->await_all(args_.wide || turn.follows_wide());
    this->is_courier() ? run_courier(turn, gives) : run_worker(turn, step);
  }
  template <typename Step>
  __device__ void run(int iterations, Step step) {
    run(iterations, this->has_peer(), step);
  }

  /// A worker warp waits until every peer has finished iteration i + 1 - stages, or those whose slots it fills: `peer` says that this lane's is one. A lane
  /// remembers the latest credit of its peer: peers are mostly ahead, and a look at memory every time costs a tenth of a large message's bandwidth.
  __device__ void await_credit(int i) { await_credit(i, this->has_peer()); }
  __device__ void await_credit(int i, bool peer) {
    const int needed = i + 2 - static_cast<int>(args_.stages);
    if (!credits() || needed <= 1) return;  // iteration 0 empties nothing
    const Mark target = mark(watch_.epoch(), static_cast<std::uint32_t>(needed));
    if (__all_sync(0xffffffffu, !peer || reached(credit_, target))) return;
    while (peer && !reached(credit_, target)) {
      credit_ = observe(credit(args_.rank, this->lane()));
      if (!reached(credit_, target) && !watch_.keep_waiting()) break;
    }
    __syncwarp();
  }

 private:
  __device__ bool credits() const { return args_.tiles > args_.stages; }

  __device__ void run_courier(Turn turn, bool gives) {
    this->advance_epoch(turn, args_.wide);
    if (credits() && __any_sync(0xffffffffu, gives)) carry_credits(gives);
    if (blockIdx.x == 0) this->await_headers(args_, watch_.epoch());
  }

  template <typename Step>
  __device__ void run_worker(Turn turn, Step step) {
    credit_ = mark(watch_.epoch(), 0);
    if constexpr (!large) {
      step(0);
      this->advance_epoch(turn, args_.wide);
    }
#pragma unroll 1
    for (int i = large ? 0 : 1; i < iterations_; ++i) {
      step(i);
      if (large && i == 0) {
        this->advance_epoch(turn, args_.wide);
        continue;
      }
      if (credits()) report_progress(progress_, static_cast<std::uint32_t>(i + 1));
    }
  }

  /// The courier: once all warps have emptied what iteration i empties, the peers may know.
  __device__ void carry_credits(bool gives) {
    for (int i = 1; i + 1 < iterations_; ++i) {
      await_progress(progress_, static_cast<int>(this->workers()) / 32, static_cast<std::uint32_t>(i + 1), [&] { return watch_.keep_waiting(); });
      if (gives) signal(credit(this->lane(), args_.rank), mark(watch_.epoch(), static_cast<std::uint32_t>(i + 1)));
    }
  }

  __device__ Mark* credit(int rank, int from) const {
    return reinterpret_cast<Mark*>(args_.pools[rank] + Layout::credits) + from * max_blocks + blockIdx.x;
  }

  int iterations_ = 0;
  std::uint32_t* progress_;  ///< a word a worker warp, in shared memory
  Mark credit_ = 0;          ///< the latest this lane has seen of its peer, see await_credit
};

}  // namespace collectives::kernels
