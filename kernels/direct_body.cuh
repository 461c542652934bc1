#pragma once

#include "kernels/direct.hpp"
#include "kernels/operand.hpp"
#include "kernels/watch.hpp"
#include "kernels/wire.hpp"

// A block walks its tiles with a lag of one between the phases, so that what a thread polls was sent an iteration ago:
//   one-shot, iteration i: push my tile i to everyone; reduce everyone's tile i-1.
//   two-shot, iteration i: scatter tile i of each chunk to its owner; reduce tile i-1 of my chunk and push it to everyone;
//                          take tile i-2 of the other chunks.
// Pack p of a tile belongs to the same thread on every rank and in every phase: no barrier between phases, no fence.
// One-shot sends (N-1) M, two-shot 2 (N-1)/N M a rank.
//
// The last warp of a block is its courier. In block 0 it tells the peers what this call is and waits for what they say. When
// a message has more tiles than a slot row has stages, it collects the progress of the other warps and publishes it to the
// peers as credit: at iteration i a slot written at iteration i - stages is free once every peer has finished the iteration
// that emptied it, i + 1 - stages. Such a call is wide: it waits for everybody's header first, which proves that all have
// finished the call before, and then has both halves of the slots to itself; the next call waits likewise.
namespace collectives::kernels {

template <typename T, typename Op, int N, bool two_shot>
class Direct {
 public:
  __device__ Direct(const DirectArgs& args, std::uint32_t* progress)
      : args_(args), progress_(progress), lane_packs_(gridDim.x * args.stages * args.tile_packs), watch_(args, args.pools, NoRelief{}) {}

  __device__ void run() {
    const Mark next = observe_relaxed(&watch_.control(args_.rank).next);
    watch_.begin(static_cast<Epoch>(next >> 32));
    half_ = args_.layout.half(false, args_.wide ? 0 : watch_.epoch());
    credit_ = mark(watch_.epoch(), 0);
    const int last = static_cast<int>(args_.tiles) + lags;  // one past the last iteration
    if (is_courier() && blockIdx.x == 0) announce();
    if (args_.wide || static_cast<std::uint32_t>(next) != 0) {
      // This call uses slots of the call before, or that one used slots of this: all must have finished it.
      await_headers();
      __syncthreads();
    }
    if (is_courier()) {
      advance_epoch();
      if (credits()) carry_credits(last);
      if (blockIdx.x == 0) await_headers();
      return;
    }
    step(0);
    advance_epoch();
    for (int i = 1; i < last; ++i) {
      step(i);
      if (credits()) report(i);
    }
  }

 private:
  using Wire = SentinelWire<T>;
  static constexpr int lags = two_shot ? 2 : 1;
  static constexpr int unroll = N <= 4 ? 2 : 1;

  __device__ int workers() const { return static_cast<int>(blockDim.x) - 32; }
  __device__ bool is_courier() const { return static_cast<int>(threadIdx.x) >= workers(); }
  __device__ int lane() const { return static_cast<int>(threadIdx.x) % 32; }
  __device__ bool credits() const { return args_.tiles > args_.stages; }

  __device__ void step(int i) {
    const int tiles = static_cast<int>(args_.tiles);
    if (i < tiles) two_shot ? scatter(i) : push(i);
    if (i >= 1 && i - 1 < tiles) reduce(i - 1);
    if (two_shot && i >= 2 && i - 2 < tiles) gather(i - 2);
  }

  /// Calls body(base) for this thread's packs of a tile, `unroll` at a time: base + u * workers() for u below `unroll`.
  template <typename Body>
  __device__ void each_group(std::uint32_t packs, Body body) {
    for (std::uint32_t base = threadIdx.x; base < packs; base += static_cast<std::uint32_t>(workers()) * unroll) body(base);
  }
  __device__ std::uint32_t pack_at(std::uint32_t base, int u) const { return base + static_cast<std::uint32_t>(u * workers()); }

  /// What every phase of two-shot moves of every chunk: as much as the longest, which is the first. A shorter chunk's last
  /// pack is followed by one that is sent, combined and received like the others, and kept by nobody.
  __device__ Tile longest(int t) const { return tile_of(args_, 0, static_cast<std::uint32_t>(t), blockIdx.x, gridDim.x); }
  __device__ Tile chunk(int c, int t) const { return tile_of(args_, c, static_cast<std::uint32_t>(t), blockIdx.x, gridDim.x); }

  __device__ void push(int t) {
    await_credit(t);
    const Tile tile = longest(t);
    const std::uint32_t row = row_of(t);
    each_group(tile.packs, [&](std::uint32_t base) {
      Pack pack[unroll];
#pragma unroll
      for (int u = 0; u < unroll; ++u)
        if (pack_at(base, u) < tile.packs) pack[u] = input(tile.first + pack_at(base, u));
      send(pack, tile.packs, base, row, 0);
    });
  }

  __device__ void scatter(int t) {
    await_credit(t);
    const std::uint32_t packs = longest(t).packs;
    const std::uint32_t row = row_of(t);
    each_group(packs, [&](std::uint32_t base) {
      Pack pack[N - 1][unroll];
#pragma unroll
      for (int k = 1; k < N; ++k) {
        const std::uint64_t first = chunk(peer_at(k), t).first;
#pragma unroll
        for (int u = 0; u < unroll; ++u)
          if (pack_at(base, u) < packs) pack[k - 1][u] = input(first + pack_at(base, u));
      }
#pragma unroll
      for (int k = 1; k < N; ++k) {
        const int to = peer_at(k);
        Pack* there = slot(to, lane_of(args_.rank, to), row);
#pragma unroll
        for (int u = 0; u < unroll; ++u)
          if (pack_at(base, u) < packs) Wire::store(there + pack_at(base, u), pack[k - 1][u]);
      }
    });
  }

  __device__ void reduce(int t) {
    if (two_shot) await_credit(t + 1);
    const Tile tile = chunk(two_shot ? args_.rank : 0, t);
    const std::uint32_t packs = two_shot ? longest(t).packs : tile.packs;
    const std::uint32_t row = row_of(t);
    each_group(packs, [&](std::uint32_t base) {
      Pack mine[unroll];
#pragma unroll
      for (int u = 0; u < unroll; ++u)
        if (pack_at(base, u) < packs) mine[u] = input(tile.first + pack_at(base, u));
      Pack pack[N][unroll];
      poll(pack, packs, base, row, 0);
      Pack result[unroll];
#pragma unroll
      for (int u = 0; u < unroll; ++u) {
        Accumulators<T> sum = unpack<T>(choose(args_.rank == 0, mine[u], pack[0][u]));
#pragma unroll
        for (int from = 1; from < N; ++from) accumulate<T>(sum, choose(from == args_.rank, mine[u], pack[from][u]), Op{});
        result[u] = Wire::sanitize(round<T>(sum, 1));
      }
      if constexpr (two_shot) send(result, packs, base, row, N - 1);
      keep(result, tile, base);
      clear(packs, base, row, 0);
    });
  }

  __device__ void gather(int t) {
    const std::uint32_t packs = longest(t).packs;
    const std::uint32_t row = row_of(t);
    each_group(packs, [&](std::uint32_t base) {
      Pack pack[N][unroll];
      poll(pack, packs, base, row, N - 1);
#pragma unroll
      for (int from = 0; from < N; ++from)
        if (from != args_.rank) keep(pack[from], chunk(from, t), base);
      clear(packs, base, row, N - 1);
    });
  }

  /// The k-th peer that this rank sends to, k from 1 to N-1: while all do so in step, no receiver is swamped.
  __device__ int peer_at(int k) const { return (args_.rank + k) % N; }

  /// The same packs to every peer.
  __device__ void send(const Pack (&pack)[unroll], std::uint32_t packs, std::uint32_t base, std::uint32_t row, int first_lane) {
#pragma unroll
    for (int k = 1; k < N; ++k) {
      const int to = peer_at(k);
      Pack* there = slot(to, first_lane + lane_of(args_.rank, to), row);
#pragma unroll
      for (int u = 0; u < unroll; ++u)
        if (pack_at(base, u) < packs) Wire::store(there + pack_at(base, u), pack[u]);
    }
  }

  /// Reads the peers' slots until every word has come, all of them at once. This rank's own place stays as it is.
  __device__ void poll(Pack (&pack)[N][unroll], std::uint32_t packs, std::uint32_t base, std::uint32_t row, int first_lane) {
#pragma unroll
    for (int from = 0; from < N; ++from)
#pragma unroll
      for (int u = 0; u < unroll; ++u)
        if (from != args_.rank && pack_at(base, u) < packs) pack[from][u] = Wire::load(arrival(from, row, first_lane) + pack_at(base, u));
    for (bool all = false; !all;) {
      all = true;
#pragma unroll
      for (int from = 0; from < N; ++from)
#pragma unroll
        for (int u = 0; u < unroll; ++u)
          if (from != args_.rank && pack_at(base, u) < packs && !Wire::arrived(pack[from][u])) {
            pack[from][u] = Wire::load(arrival(from, row, first_lane) + pack_at(base, u));
            all = false;
          }
      if (!all && !watch_.keep_waiting()) return;
    }
  }

  __device__ void clear(std::uint32_t packs, std::uint32_t base, std::uint32_t row, int first_lane) {
#pragma unroll
    for (int k = 0; k < N - 1; ++k)
#pragma unroll
      for (int u = 0; u < unroll; ++u)
        if (pack_at(base, u) < packs) Wire::clear(slot(args_.rank, first_lane + k, row) + pack_at(base, u));
  }

  __device__ void keep(const Pack (&pack)[unroll], const Tile& tile, std::uint32_t base) {
#pragma unroll
    for (int u = 0; u < unroll; ++u)
      if (pack_at(base, u) < tile.packs) store_result<T>(args_, tile.first + pack_at(base, u), pack[u]);
  }

  /// One of two packs, word by word: choosing between the arrays that hold them would put the arrays in memory.
  static __device__ Pack choose(bool first, Pack a, Pack b) {
#pragma unroll
    for (int i = 0; i < 4; ++i) b.word[i] = first ? static_cast<std::uint32_t>(a.word[i]) : static_cast<std::uint32_t>(b.word[i]);
    return b;
  }

  __device__ Pack input(std::uint64_t p) const { return Wire::sanitize(load_operand<T>(args_, args_.in, args_.in_aligned, p)); }

  /// A sender's place among the N-1 lanes of a receiver.
  static __device__ int lane_of(int from, int to) { return from < to ? from : from - 1; }

  __device__ const Pack* arrival(int from, std::uint32_t row, int first_lane) const { return slot(args_.rank, first_lane + lane_of(from, args_.rank), row); }
  /// Where a tile's slot begins within each lane, in packs. 32 bits hold any index: all slots are less than 512 MB.
  __device__ std::uint32_t row_of(int t) const { return (blockIdx.x * args_.stages + static_cast<std::uint32_t>(t) % args_.stages) * args_.tile_packs; }
  __device__ Pack* slot(int rank, int lane, std::uint32_t row) const {
    return reinterpret_cast<Pack*>(args_.pools[rank] + half_) + (static_cast<std::uint32_t>(lane) * lane_packs_ + row);
  }
  __device__ Mark* credit(int rank, int from) const {
    return reinterpret_cast<Mark*>(args_.pools[rank] + Layout::credits) + from * max_blocks + blockIdx.x;
  }

  /// The last block to have read the epoch moves it on. Joins the block's threads after their first pushes, before any poll.
  __device__ void advance_epoch() {
    __syncthreads();
    if (static_cast<int>(threadIdx.x) != workers()) return;
    Control& mine = watch_.control(args_.rank);
    const std::uint32_t before = gridDim.x == 1 ? 0 : arrive_local(&mine.arrived);
    if (before + 1 != gridDim.x) return;
    signal_relaxed(&mine.arrived, 0u);
    signal_relaxed(&mine.next, mark(watch_.epoch() + 1, args_.wide));
  }

  __device__ void announce() {
    if (lane() < N && lane() != args_.rank) watch_.announce(lane());
  }
  /// By one warp; all may.
  __device__ void await_headers() {
    if (lane() < N && lane() != args_.rank) watch_.await_header(lane());
  }

  /// A worker warp: all its lanes have emptied what iteration i empties.
  __device__ void report(int i) {
    __syncwarp();
    if (lane() == 0) store_progress(progress_ + threadIdx.x / 32, static_cast<std::uint32_t>(i + 1));
  }
  /// A worker warp waits until every peer has finished iteration i + 1 - stages. A lane remembers the latest credit of its
  /// peer: peers are mostly ahead, and a look at memory every time costs a tenth of a large message's bandwidth.
  __device__ void await_credit(int i) {
    const int needed = i + 2 - static_cast<int>(args_.stages);
    if (!credits() || needed <= 1) return;  // iteration 0 empties nothing
    const bool peer = lane() < N && lane() != args_.rank;
    const Mark target = mark(watch_.epoch(), static_cast<std::uint32_t>(needed));
    if (__all_sync(0xffffffffu, !peer || reached(credit_, target))) return;
    while (peer && !reached(credit_, target)) {
      credit_ = observe(credit(args_.rank, lane()));
      if (!reached(credit_, target) && !watch_.keep_waiting()) break;
    }
    __syncwarp();
  }
  /// The courier: once all warps have finished iteration i, the peers may know.
  __device__ void carry_credits(int last) {
    for (int i = 1; i + 1 < last; ++i) {
      if (lane() < workers() / 32)
        while (load_progress(progress_ + lane()) < static_cast<std::uint32_t>(i + 1) && watch_.keep_waiting()) {
        }
      __syncwarp();
      if (lane() < N && lane() != args_.rank) signal(credit(lane(), args_.rank), mark(watch_.epoch(), static_cast<std::uint32_t>(i + 1)));
    }
  }

  static __device__ void store_progress(std::uint32_t* word, std::uint32_t value) {
    asm volatile("st.release.cta.shared.u32 [%0], %1;" ::"r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(word))), "r"(value) : "memory");
  }
  static __device__ std::uint32_t load_progress(const std::uint32_t* word) {
    std::uint32_t value;
    asm volatile("ld.acquire.cta.shared.u32 %0, [%1];" : "=r"(value) : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(word))) : "memory");
    return value;
  }

  const DirectArgs& args_;
  std::uint32_t* progress_;
  const std::uint32_t lane_packs_;  ///< of one lane's slots
  Mark credit_ = 0;                 ///< the latest this lane has seen of its peer, see await_credit
  std::size_t half_ = 0;            ///< where this call's slots begin in every pool
  Watch<NoRelief> watch_;
};

}  // namespace collectives::kernels
