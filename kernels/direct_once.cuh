#pragma once

#include "kernels/plain_call.cuh"
#include "kernels/programmatic.cuh"

// A call in which every thread has one whole pack of a chunk, or none: the slots hold the message and each phase runs once. For
// aligned buffers and a whole number of packs, of chunks of one length if a power of two of ranks may expect that, so that there is no more code than that takes.
namespace collectives::kernels {

template <typename T, int N, bool two_shot>
class DirectOnce : PlainCall<T, N, two_shot> {
  using Wire = SentinelWire<T>;
  using Base = PlainCall<T, N, two_shot>;

 public:
  using Base::Base;

  __device__ void run() {
    begin_behind_others(this->args_.early);
    const Turn turn = this->turn();
    Pack pack[N];
    load(pack);  // while the epoch is on its way; by all threads, since a compiler looks at it before a branch
    this->begin(turn, false);
    this->announce();
    this->await_all(turn.follows_wide());
    this->advance_epoch(turn, false);
    if (is_active()) push(pack);
    if (is_active()) finish(pack[0]);
    if (this->is_courier() && blockIdx.x == 0) this->await_headers(this->args_, this->watch_.epoch());
  }

 private:
  __device__ std::uint32_t index() const { return blockIdx.x * this->args_.tile_packs + threadIdx.x; }
  __device__ bool is_active() const { return (threadIdx.x < this->args_.tile_packs) & (index() < this->args_.longest_chunk); }

  /// This rank's own pack first, then what goes to each peer.
  __device__ void load(Pack (&pack)[N]) {
#pragma unroll
    for (int k = 0; k < (two_shot ? N : 1); ++k) pack[k] = this->input(k, is_active() ? index() : 0);
  }

  __device__ void push(Pack (&pack)[N]) {
#pragma unroll
    for (int k = 0; k < (two_shot ? N : 1); ++k) pack[k] = Wire::sanitize(pack[k]);
#pragma unroll
    for (int k = 1; k < N; ++k) Wire::store(this->operands_at(k, index()), pack[two_shot ? k : 0]);
  }

  __device__ void finish(const Pack& mine) {
    const auto every = [](int) { return true; };
    const bool gathers = two_shot && this->args_.gathers;
    // One piece of code for both phases: the second finds it in the cache.
#pragma unroll 1
    for (int phase = 0;; phase = 1) {
      Pack pack[N - 1];
      const auto slot = [&](int l) { return this->operand_slot(l + phase * (N - 1), index()); };
      this->poll(pack, slot, every);
      if (phase == 0) {
        const Pack sum = sum_in_order<T, N>(this->args_.rank, mine, [&](int l) { return pack[l]; });
        if (gathers) {
#pragma unroll
          for (int k = 1; k < N; ++k) Wire::store(this->chunks_at(k, index()), sum);
        }
        this->keep(0, index(), sum);
      } else {
#pragma unroll
        for (int k = 1; k < N; ++k) this->keep(k, index(), pack[k - 1]);
      }
#pragma unroll
      for (int l = 0; l < N - 1; ++l) Wire::clear(slot(l));
      if (!gathers || phase == 1) return;
    }
  }
};

}  // namespace collectives::kernels
