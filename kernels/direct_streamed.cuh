#pragma once

#include "kernels/direct_call.cuh"

// A call of many tiles. A block walks them with a lag of one between the phases, so that what a thread polls was sent an
// iteration ago: at iteration i it pushes or scatters tile i, reduces tile i-1, gathers tile i-2.
//
// When a message has more tiles than a slot row has stages, the courier collects the progress of the other warps and
// publishes it to the peers as credit: at iteration i a slot written at iteration i - stages is free once every peer has
// finished the iteration that emptied it, i + 1 - stages. Such a call is wide: it waits for everybody's header first, which
// proves that all have finished the call before, and then has both halves of the slots to itself; the next call waits likewise.
namespace collectives::kernels {

template <typename T, int N, bool two_shot>
class DirectStreamed : DirectCall<T, N, two_shot> {
  using Base = DirectCall<T, N, two_shot>;
  using typename Base::Wire;
  using Base::args_;
  using Base::watch_;

 public:
  __device__ DirectStreamed(const DirectArgs& args, std::uint32_t* progress) : Base(args), progress_(progress) {}

  __device__ void run() {
    const Mark next = this->next();
    this->begin(next, args_.wide);
    this->announce();
    this->await_all(args_.wide || static_cast<std::uint32_t>(next) != 0);
    this->is_courier() ? run_courier() : run_worker();
  }

 private:
  static constexpr int unroll = N <= 4 ? 2 : 1;

  __device__ bool credits() const { return args_.tiles > args_.stages; }
  __device__ int tiles() const { return static_cast<int>(args_.tiles); }
  __device__ int iterations() const { return tiles() + (two_shot ? 2 : 1); }

  __device__ void run_courier() {
    this->advance_epoch(args_.wide);
    if (credits()) carry_credits();
    if (blockIdx.x == 0) this->await_headers(args_, watch_.epoch());
  }

  __device__ void run_worker() {
    credit_ = mark(watch_.epoch(), 0);
    step(0);
    this->advance_epoch(args_.wide);
    for (int i = 1; i < iterations(); ++i) {
      step(i);
      if (credits()) report(i);
    }
  }

  __device__ void step(int i) {
    if (i < tiles()) push(i);
    if (i >= 1 && i - 1 < tiles()) reduce(i - 1);
    if (two_shot && i >= 2 && i - 2 < tiles()) gather(i - 2);
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
    await_credit(t);
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
    if (two_shot) await_credit(t + 1);
    each_group(t, [&](const Group& group) {
      Pack sum[unroll];
#pragma unroll
      for (int u = 0; u < unroll; ++u)
        if (group.has(u)) sum[u] = input(0, group.chunk(u));
      Pack pack[(N - 1) * unroll];
      this->poll(pack, [&](int i) { return this->operand_slot(i / unroll, group.slot(i % unroll)); }, [&](int i) { return group.has(i % unroll); });
#pragma unroll
      for (int u = 0; u < unroll; ++u) sum[u] = this->combine(Wire::sanitize(sum[u]), [&](int l) { return pack[l * unroll + u]; });
      if (two_shot) {
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

  /// A worker warp: all its lanes have emptied what iteration i empties.
  __device__ void report(int i) {
    __syncwarp();
    if (this->lane() == 0) store_progress(progress_ + threadIdx.x / 32, static_cast<std::uint32_t>(i + 1));
  }
  /// A worker warp waits until every peer has finished iteration i + 1 - stages. A lane remembers the latest credit of its
  /// peer: peers are mostly ahead, and a look at memory every time costs a tenth of a large message's bandwidth.
  __device__ void await_credit(int i) {
    const int needed = i + 2 - static_cast<int>(args_.stages);
    if (!credits() || needed <= 1) return;  // iteration 0 empties nothing
    const bool peer = this->has_peer();
    const Mark target = mark(watch_.epoch(), static_cast<std::uint32_t>(needed));
    if (__all_sync(0xffffffffu, !peer || reached(credit_, target))) return;
    while (peer && !reached(credit_, target)) {
      credit_ = observe(credit(args_.rank, this->lane()));
      if (!reached(credit_, target) && !watch_.keep_waiting()) break;
    }
    __syncwarp();
  }
  /// The courier: once all warps have finished iteration i, the peers may know.
  __device__ void carry_credits() {
    for (int i = 1; i + 1 < iterations(); ++i) {
      if (this->lane() < static_cast<int>(this->workers()) / 32)
        while (load_progress(progress_ + this->lane()) < static_cast<std::uint32_t>(i + 1) && watch_.keep_waiting()) {
        }
      __syncwarp();
      if (this->has_peer()) signal(credit(this->lane(), args_.rank), mark(watch_.epoch(), static_cast<std::uint32_t>(i + 1)));
    }
  }

  __device__ Mark* credit(int rank, int from) const {
    return reinterpret_cast<Mark*>(args_.pools[rank] + Layout::credits) + from * max_blocks + blockIdx.x;
  }

  static __device__ void store_progress(std::uint32_t* word, std::uint32_t value) {
    asm volatile("st.release.cta.shared.u32 [%0], %1;" ::"r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(word))), "r"(value) : "memory");
  }
  static __device__ std::uint32_t load_progress(const std::uint32_t* word) {
    std::uint32_t value;
    asm volatile("ld.acquire.cta.shared.u32 %0, [%1];" : "=r"(value) : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(word))) : "memory");
    return value;
  }

  std::uint32_t* progress_;  ///< a word a worker warp, in shared memory
  Mark credit_ = 0;          ///< the latest this lane has seen of its peer, see await_credit
};

}  // namespace collectives::kernels
