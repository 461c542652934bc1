#pragma once

#include "kernels/plain_call.cuh"

// Two-shot or a reduce-scatter of more than a pack a thread, whose slots hold all its tiles. A thread sends everything, then reduces everything, then gathers
// everything: by the time it looks for a tile that has mostly come, and the links are never without stores. For the buffers that DirectOnce is for.
// Packs lie in the slots where DirectStreamed has them.
namespace collectives::kernels {

template <typename T, int N>
class DirectPhased : PlainCall<T, N, true> {
  using Wire = SentinelWire<T>;
  using Base = PlainCall<T, N, true>;
  using Base::args_;
  using Base::input;
  using Base::keep;

 public:
  using Base::Base;

  __device__ void run() {
    const Turn turn = this->turn();
    this->begin(turn, args_.wide);
    this->announce();
    this->await_all(args_.wide || turn.follows_wide());
    this->advance_epoch(turn, args_.wide);
    if (!this->is_courier()) {
      each_tile([&](std::uint32_t p, std::uint32_t slot) { push(p, slot); });
      each_tile([&](std::uint32_t p, std::uint32_t slot) { reduce(p, slot); });
      if (args_.gathers) each_tile([&](std::uint32_t p, std::uint32_t slot) { gather(p, slot); });
    } else if (blockIdx.x == 0) {
      this->await_headers(args_, this->watch_.epoch());
    }
  }

 private:
  /// This thread's packs: where they are in their chunk, and in a lane of slots.
  template <typename Body>
  __device__ void each_tile(Body body) {
    if (threadIdx.x >= args_.tile_packs) return;
    std::uint32_t p = blockIdx.x * args_.tile_packs + threadIdx.x, slot = blockIdx.x * args_.stages * args_.tile_packs + threadIdx.x;
    for (; p < args_.longest_chunk; p += gridDim.x * args_.tile_packs, slot += args_.tile_packs) body(p, slot);
  }

  __device__ void push(std::uint32_t p, std::uint32_t slot) {
    Pack pack[N - 1];
#pragma unroll
    for (int k = 1; k < N; ++k) pack[k - 1] = input(k, p);
#pragma unroll
    for (int k = 1; k < N; ++k) Wire::store(this->operands_at(k, slot), Wire::sanitize(pack[k - 1]));
  }

  __device__ void reduce(std::uint32_t p, std::uint32_t slot) {
    const Pack mine = input(0, p);
    Pack operand[N - 1];
    this->poll(operand, [&](int l) { return this->operand_slot(l, slot); }, [](int) { return true; });
    const Pack sum = sum_in_order<T, N>(args_.rank, Wire::sanitize(mine), [&](int l) { return operand[l]; });
    if (args_.gathers) {
#pragma unroll
      for (int k = 1; k < N; ++k) Wire::store(this->chunks_at(k, slot), sum);
    }
    keep(0, p, sum);
#pragma unroll
    for (int l = 0; l < N - 1; ++l) Wire::clear(this->operand_slot(l, slot));
  }

  __device__ void gather(std::uint32_t p, std::uint32_t slot) {
    Pack chunk[N - 1];
    this->poll(chunk, [&](int l) { return this->chunk_slot(l + 1, slot); }, [](int) { return true; });
#pragma unroll
    for (int k = 1; k < N; ++k) keep(k, p, chunk[k - 1]);
#pragma unroll
    for (int k = 1; k < N; ++k) Wire::clear(this->chunk_slot(k, slot));
  }
};

}  // namespace collectives::kernels
