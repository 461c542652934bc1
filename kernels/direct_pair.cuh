#pragma once

#include "base/direct_shape.hpp"
#include "kernels/direct_call.cuh"

// A call between two ranks that sends once, of more than a pack a thread, whose slots hold all its tiles: a one-shot all-reduce, which for two
// sends no more than two-shot and waits once, or a reduce-scatter. A thread sends a tile before it looks for what came of the one
// before, so the link is never without stores. For the buffers that DirectOnce is for. Packs lie in the slots where DirectStreamed has them.
namespace collectives::kernels {

template <typename T, bool scatters>
class DirectPair : DirectCall<DirectArgs, SentinelWire<T>, 2> {
  using Wire = SentinelWire<T>;
  using Base = DirectCall<DirectArgs, Wire, 2>;
  using Base::args_;

 public:
  __device__ explicit DirectPair(const DirectArgs& args) : Base(args) {}

  __device__ void run() {
    const Turn turn = this->turn();
    Tile tile;
    if (!this->is_courier()) load(0, tile);  // while the epoch is on its way
    this->begin(turn, false);
    this->announce();
    this->await_all(turn.follows_wide());
    this->advance_epoch(turn, false);
    if (!this->is_courier()) {
      work(tile);
    } else if (blockIdx.x == 0) {
      this->await_headers(args_, this->watch_.epoch());
    }
  }

 private:
  static constexpr int packs = pair_packs;

  /// A thread's packs of one: what it keeps the sum of, and what it sends if that is another chunk.
  struct Tile {
    Pack mine[packs], theirs[scatters ? packs : 1];
  };

  __device__ void work(Tile& tile) {
    push(0, tile);
    for (std::uint32_t t = 0; t < args_.tiles; ++t) {
      Tile following;
      if (t + 1 < args_.tiles) {
        load(t + 1, following);
        push(t + 1, following);
      }
      finish(t, tile);
      tile = following;
    }
  }

  __device__ std::uint32_t in_tile(int u) const { return threadIdx.x + u * this->workers(); }
  __device__ std::uint32_t in_chunk(std::uint32_t t, int u) const { return (t * gridDim.x + blockIdx.x) * args_.tile_packs + in_tile(u); }
  __device__ std::uint32_t in_lane(std::uint32_t t, int u) const { return (blockIdx.x * args_.stages + t) * args_.tile_packs + in_tile(u); }
  __device__ bool has(std::uint32_t t, int u) const { return in_tile(u) < args_.tile_packs && in_chunk(t, u) < args_.longest_chunk; }

  __device__ Pack input(int k, std::uint32_t p) const { return static_cast<const Pack*>(args_.in)[args_.chunk[k].first + p]; }

  __device__ void load(std::uint32_t t, Tile& tile) {
#pragma unroll
    for (int u = 0; u < packs; ++u) {
      if (!has(t, u)) continue;
      tile.mine[u] = input(0, in_chunk(t, u));
      if constexpr (scatters) tile.theirs[u] = input(1, in_chunk(t, u));
    }
  }

  __device__ void push(std::uint32_t t, Tile& tile) {
#pragma unroll
    for (int u = 0; u < packs; ++u) {
      tile.mine[u] = Wire::sanitize(tile.mine[u]);
      if (!has(t, u)) continue;
      if constexpr (scatters) {
        Wire::store(this->operands_at(1, in_lane(t, u)), Wire::sanitize(tile.theirs[u]));
      } else {
        Wire::store(this->operands_at(1, in_lane(t, u)), tile.mine[u]);
      }
    }
  }

  __device__ void finish(std::uint32_t t, const Tile& tile) {
    Pack other[packs];
    const auto slot = [&](int u) { return this->operand_slot(0, in_lane(t, u)); };
    const auto wanted = [&](int u) { return has(t, u); };
    this->poll(other, slot, wanted);
#pragma unroll
    for (int u = 0; u < packs; ++u) {
      if (!wanted(u)) continue;
      static_cast<Pack*>(args_.out)[args_.chunk[0].first + in_chunk(t, u)] = sum_in_order<T, 2>(args_.rank, tile.mine[u], [&](int) { return other[u]; });
      Wire::clear(slot(u));
    }
  }
};

}  // namespace collectives::kernels
