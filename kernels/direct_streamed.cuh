#pragma once

#include "kernels/streamed_call.cuh"

// An all-reduce or a reduce-scatter of many tiles. A block walks them with a lag of one between the phases, so that what a thread polls
// was sent an iteration ago: at iteration i it pushes or scatters tile i, reduces tile i-1, gathers tile i-2.
namespace collectives::kernels {

template <typename T, int N, bool two_shot>
class DirectStreamed : StreamedCall<DirectArgs, SentinelWire<T>, N> {
  using Wire = SentinelWire<T>;
  using Base = StreamedCall<DirectArgs, Wire, N>;
  using Base::args_;

 public:
  using Base::Base;

  __device__ void run() {
    Base::run(tiles() + (gathers() ? 2 : 1), [&](int i) { step(i); });
  }

 private:
  static constexpr int unroll = N <= 4 ? 2 : 1;

  __device__ bool gathers() const { return two_shot && args_.gathers; }
  __device__ int tiles() const { return static_cast<int>(args_.tiles); }

  __device__ void step(int i) {
    if (i < tiles()) push(i);
    if (i >= 1 && i - 1 < tiles()) reduce(i - 1);
    if (gathers() && i >= 2 && i - 2 < tiles()) gather(i - 2);
  }

  /// A thread's packs of a tile, `unroll` at a time: where they are in their chunk and in a lane of slots.
  struct Group {
    std::uint32_t in_tile, in_chunk, in_lane, step, packs;
    __device__ bool has(int u) const { return in_tile + u * step < packs; }
    __device__ std::uint32_t chunk(int u) const { return in_chunk + u * step; }
    __device__ std::uint32_t slot(int u) const { return in_lane + u * step; }
  };

  /// Pack p of chunk k. Beyond the message zeros; beyond a chunk that is shorter than the longest, a pack that is sent and
  /// combined like the others and kept by nobody. Not sanitized: who loads several must not wait for one before asking for the next.
  __device__ Pack input(int k, std::uint32_t p) const {
    p += args_.chunk[k].first;
    if (p < args_.whole_in) return static_cast<const Pack*>(args_.in)[p];
    return load_by_element<T>(args_.in, args_.count, p);
  }
  __device__ void keep(int k, std::uint32_t p, const Pack& pack) {
    if (p >= args_.chunk[k].packs) return;
    p += args_.chunk[k].first;
    if (p < args_.whole_out) {
      static_cast<Pack*>(args_.out)[p] = pack;
    } else {
      store_by_element<T>(args_.out, args_.count, p, pack);
    }
  }

  template <typename Body>
  __device__ void each_group(int t, Body body) {
    const std::uint32_t tile = static_cast<std::uint32_t>(t);
    const std::uint32_t first = (tile * gridDim.x + blockIdx.x) * args_.tile_packs;
    const std::uint32_t row = (blockIdx.x * args_.stages + tile % args_.stages) * args_.tile_packs;
    const std::uint32_t left = first < args_.longest_chunk ? args_.longest_chunk - first : 0;
    const std::uint32_t packs = left < args_.tile_packs ? left : args_.tile_packs;
    for (std::uint32_t p = threadIdx.x; p < packs; p += this->workers() * unroll) body(Group{p, first + p, row + p, this->workers(), packs});
  }

  __device__ void push(int t) {
    this->await_credit(t);
    each_group(t, [&](const Group& group) {
      constexpr int first = two_shot ? 1 : 0, count = two_shot ? N - 1 : 1;
      Pack pack[count][unroll];
#pragma unroll
      for (int c = 0; c < count; ++c)
#pragma unroll
        for (int u = 0; u < unroll; ++u)
          if (group.has(u)) pack[c][u] = input(first + c, group.chunk(u));
#pragma unroll
      for (int k = 1; k < N; ++k)
#pragma unroll
        for (int u = 0; u < unroll; ++u)
          if (group.has(u)) Wire::store(this->operands_at(k, group.slot(u)), Wire::sanitize(pack[two_shot ? k - 1 : 0][u]));
    });
  }

  __device__ void reduce(int t) {
    if (gathers()) this->await_credit(t + 1);
    each_group(t, [&](const Group& group) {
      Pack sum[unroll];
#pragma unroll
      for (int u = 0; u < unroll; ++u)
        if (group.has(u)) sum[u] = input(0, group.chunk(u));
      Pack pack[(N - 1) * unroll];
      this->poll(pack, [&](int i) { return this->operand_slot(i / unroll, group.slot(i % unroll)); }, [&](int i) { return group.has(i % unroll); });
#pragma unroll
      for (int u = 0; u < unroll; ++u) sum[u] = sum_in_order<T, N>(args_.rank, Wire::sanitize(sum[u]), [&](int l) { return pack[l * unroll + u]; });
      if (gathers()) {
#pragma unroll
        for (int k = 1; k < N; ++k)
#pragma unroll
          for (int u = 0; u < unroll; ++u)
            if (group.has(u)) Wire::store(this->chunks_at(k, group.slot(u)), sum[u]);
      }
#pragma unroll
      for (int u = 0; u < unroll; ++u)
        if (group.has(u)) keep(0, group.chunk(u), sum[u]);
#pragma unroll
      for (int l = 0; l < N - 1; ++l)
#pragma unroll
        for (int u = 0; u < unroll; ++u)
          if (group.has(u)) Wire::clear(this->operand_slot(l, group.slot(u)));
    });
  }

  __device__ void gather(int t) {
    each_group(t, [&](const Group& group) {
      Pack pack[(N - 1) * unroll];
      this->poll(pack, [&](int i) { return this->chunk_slot(i / unroll + 1, group.slot(i % unroll)); }, [&](int i) { return group.has(i % unroll); });
#pragma unroll
      for (int i = 0; i < (N - 1) * unroll; ++i)
        if (group.has(i % unroll)) keep(i / unroll + 1, group.chunk(i % unroll), pack[i]);
#pragma unroll
      for (int i = 0; i < (N - 1) * unroll; ++i)
        if (group.has(i % unroll)) Wire::clear(this->chunk_slot(i / unroll + 1, group.slot(i % unroll)));
    });
  }
};

}  // namespace collectives::kernels
