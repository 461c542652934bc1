#pragma once

#include "kernels/streamed_call.cuh"

// Blocks from every rank to every other in one hop, bit for bit: all-gather, all-to-all, broadcast, scatter and gather. A thread's packs of a
// block and the word of their escapes belong to the same thread on both sides; the words of a tile lie behind its packs. Sends
// what it is given, (N-1)/N of an all-gather's message a rank.
namespace collectives::kernels {

/// A thread's share of a tile: where it is in the caller's blocks, and where it travels.
class MovingTile {
 public:
  __device__ MovingTile(const MoveArgs& args, std::uint32_t first, std::uint32_t row, std::uint32_t workers)
      : args_(args), first_(first), row_(row), workers_(workers) {}

  /// Is there anything for this thread in what goes to peer k, or comes from it?
  __device__ bool sends(int k) const { return sends(k, 0); }
  __device__ bool receives(int k) const { return receives(k, 0); }
  __device__ bool sends(int k, int u) const { return has(u) && std::uint64_t{index(u)} * sizeof(Pack) < args_.part[k].in_bytes; }
  __device__ bool receives(int k, int u) const { return has(u) && std::uint64_t{index(u)} * sizeof(Pack) < args_.part[k].out_bytes; }

  __device__ Pack load(int k, int u) const {
    const MoveArgs::Part& part = args_.part[k];
    const std::uint32_t p = index(u);
    return p < part.whole_in ? static_cast<const Pack*>(part.in)[p] : load_bytes(part.in, part.in_bytes, p);
  }
  __device__ void keep(int k, int u, const Pack& pack) const {
    const MoveArgs::Part& part = args_.part[k];
    const std::uint32_t p = index(u);
    if (p < part.whole_out) {
      static_cast<Pack*>(part.out)[p] = pack;
    } else {
      store_bytes(part.out, part.out_bytes, p, pack);
    }
  }

  /// In a lane of slots.
  __device__ std::uint32_t slot(int u) const { return row_ + in_tile(u); }
  __device__ std::uint32_t* word(Pack* lane) const { return reinterpret_cast<std::uint32_t*>(lane + row_ + args_.tile_packs) + threadIdx.x; }

 private:
  __device__ std::uint32_t in_tile(int u) const { return threadIdx.x + u * workers_; }
  __device__ std::uint32_t index(int u) const { return first_ + in_tile(u); }
  __device__ bool has(int u) const { return in_tile(u) < args_.tile_packs; }

  const MoveArgs& args_;
  std::uint32_t first_;    ///< of the tile, in a block
  std::uint32_t row_;      ///< where its slots begin in a lane
  std::uint32_t workers_;
};

template <int N, int unroll, typename Base>
class Mover : protected Base {
 protected:
  using Base::args_;
  using Base::Base;
  using Tile = MovingTile;

  /// A thread's packs for peer k. Not escaped: who loads several must not wait for one before asking for the next.
  __device__ void load(const Tile& tile, int k, Pack (&pack)[unroll]) const {
#pragma unroll
    for (int u = 0; u < unroll; ++u)
      if (tile.sends(k, u)) pack[u] = tile.load(k, u);
  }
  __device__ void send(const Tile& tile, int k, Pack (&pack)[unroll]) const {
    if (!tile.sends(k)) return;
    std::uint32_t escaped = 0;
#pragma unroll
    for (int u = 0; u < unroll; ++u) {
      if (!tile.sends(k, u)) continue;
      escaped |= EscapedWire::escape(pack[u]) << 4 * u;
      EscapedWire::store(this->chunks_at(k, tile.slot(u)), pack[u]);
    }
    signal_relaxed(tile.word(this->chunks_at(k, 0)), escaped);
  }

  /// The packs of a tile of all peers but one, polled at once, put in their places; their slots are empty again.
  __device__ void receive(const Tile& tile, int but = 0) {
    Pack pack[(N - 1) * unroll];
    std::uint32_t word[N - 1];
    poll(tile, pack, word, but);
#pragma unroll
    for (int k = 1; k < N; ++k) {
      if (k == but || !tile.receives(k)) continue;
#pragma unroll
      for (int u = 0; u < unroll; ++u) {
        if (!tile.receives(k, u)) continue;
        Pack& own = pack[(k - 1) * unroll + u];
        EscapedWire::restore(own, word[k - 1] >> 4 * u);
        tile.keep(k, u, own);
        EscapedWire::clear(lane(k) + tile.slot(u));
      }
      signal_relaxed(tile.word(lane(k)), EscapedWire::empty);
    }
  }

  /// What peer `from` sent goes on to the other peers as it came, and into its place.
  __device__ void relay(const Tile& tile, int from) {
    if (!tile.receives(from)) return;
    Pack pack[unroll];
    std::uint32_t word = EscapedWire::empty;
    bool all = false;
    do {
      all = true;
      if (!EscapedWire::arrived(word)) word = observe_relaxed(tile.word(lane(from))), all = EscapedWire::arrived(word);
#pragma unroll
      for (int u = 0; u < unroll; ++u) {
        if (!tile.receives(from, u)) continue;
        pack[u] = EscapedWire::load(lane(from) + tile.slot(u));
        all = all && EscapedWire::arrived(pack[u]);
      }
    } while (!all && this->watch_.keep_waiting());
#pragma unroll
    for (int k = 1; k < N; ++k) {
      if (k == from) continue;
#pragma unroll
      for (int u = 0; u < unroll; ++u)
        if (tile.receives(from, u)) EscapedWire::store(this->chunks_at(k, tile.slot(u)), pack[u]);
      signal_relaxed(tile.word(this->chunks_at(k, 0)), word);
    }
#pragma unroll
    for (int u = 0; u < unroll; ++u) {
      if (!tile.receives(from, u)) continue;
      EscapedWire::restore(pack[u], word >> 4 * u);
      tile.keep(from, u, pack[u]);
      EscapedWire::clear(lane(from) + tile.slot(u));
    }
    signal_relaxed(tile.word(lane(from)), EscapedWire::empty);
  }

  /// What this rank keeps for itself.
  __device__ void copy(const Tile& tile) const {
#pragma unroll
    for (int u = 0; u < unroll; ++u)
      if (tile.sends(0, u)) tile.keep(0, u, tile.load(0, u));
  }

 private:
  /// Where what comes from peer k arrives.
  __device__ Pack* lane(int k) const { return this->operand_slot(k - 1, 0); }

  __device__ void poll(const Tile& tile, Pack (&pack)[(N - 1) * unroll], std::uint32_t (&word)[N - 1], int but) {
    const auto look = [&](auto is_missing, auto is_word_missing) {
      bool all = true;
#pragma unroll
      for (int k = 1; k < N; ++k) {
        if (k == but) continue;
        if (tile.receives(k) && is_word_missing(k - 1)) word[k - 1] = observe_relaxed(tile.word(lane(k))), all = false;
#pragma unroll
        for (int u = 0; u < unroll; ++u) {
          const int i = (k - 1) * unroll + u;
          if (tile.receives(k, u) && is_missing(i)) pack[i] = EscapedWire::load(lane(k) + tile.slot(u)), all = false;
        }
      }
      return all;
    };
    look([](int) { return true; }, [](int) { return true; });
    while (!look([&](int i) { return !EscapedWire::arrived(pack[i]); }, [&](int k) { return !EscapedWire::arrived(word[k]); }))
      if (!this->watch_.keep_waiting()) return;
  }
};

/// One tile a block, one pack a thread.
template <int N>
class MoveOnce : Mover<N, 1, DirectCall<MoveArgs, EscapedWire, N>> {
  using Base = Mover<N, 1, DirectCall<MoveArgs, EscapedWire, N>>;

 public:
  using Base::Base;

  __device__ void run() {
    const Mark next = this->next();
    const std::uint32_t row = blockIdx.x * (this->args_.tile_packs + this->workers() / 4);
    const typename Base::Tile tile(this->args_, blockIdx.x * this->args_.tile_packs, row, this->workers());
    Pack pack[N - 1][1];
    if (!this->is_courier()) {  // while the epoch is on its way
#pragma unroll
      for (int k = 1; k < N; ++k) this->load(tile, k, pack[k - 1]);
    }
    this->begin(next, false);
    this->announce();
    this->await_all(static_cast<std::uint32_t>(next) != 0);
    if (!this->is_courier()) {
#pragma unroll
      for (int k = 1; k < N; ++k) this->send(tile, k, pack[k - 1]);
    }
    this->advance_epoch(false);
    if (!this->is_courier()) {
      this->copy(tile);
      this->receive(tile);
    } else if (blockIdx.x == 0) {
      this->await_headers(this->args_, this->watch_.epoch());
    }
  }
};

/// Many tiles: at iteration i a block sends tile i and receives tile i-1.
template <int N>
class MoveStreamed : protected Mover<N, streamed_move_packs(N), StreamedCall<MoveArgs, EscapedWire, N>> {
  using Base = Mover<N, streamed_move_packs(N), StreamedCall<MoveArgs, EscapedWire, N>>;

 public:
  using Base::Base;

  __device__ void run() {
    Base::run(tiles() + 1, [&](int i) {
      if (i < tiles()) push(i);
      if (i >= 1) this->receive(tile(i - 1));
    });
  }

 protected:
  using typename Base::Tile;
  static constexpr int unroll = streamed_move_packs(N);

  __device__ int tiles() const { return static_cast<int>(this->args_.tiles); }

  __device__ Tile tile(int t) const {
    const auto& args = this->args_;
    const std::uint32_t index = static_cast<std::uint32_t>(t), rows = blockIdx.x * args.stages + index % args.stages;
    return {args, (index * gridDim.x + blockIdx.x) * args.tile_packs, rows * (args.tile_packs + this->workers() / 4), this->workers()};
  }

  __device__ void push(int t) {
    this->await_credit(t);
    const Tile own = tile(t);
    Pack pack[N - 1][unroll];
#pragma unroll
    for (int k = 1; k < N; ++k) this->load(own, k, pack[k - 1]);
#pragma unroll
    for (int k = 1; k < N; ++k) this->send(own, k, pack[k - 1]);
    this->copy(own);
  }
};

/// A two-shot broadcast: at iteration i the root sends everyone tile i of its part, who passes on tile i-1 of it and receives the others'
/// tile i-2. The root sends the message once.
template <int N>
class BroadcastStreamed : MoveStreamed<N> {
  using Base = MoveStreamed<N>;
  using typename Base::Tile;

 public:
  using Base::Base;

  __device__ void run() {
    const int root = (this->args_.root - this->args_.rank + N) % N;
    StreamedCall<MoveArgs, EscapedWire, N>::run(this->tiles() + 2, [&](int i) {
      if (root == 0) {
        if (i < this->tiles()) push(i);
        return;
      }
      if (i >= 1 && i - 1 < this->tiles()) {
        this->await_credit(i);
        this->relay(this->tile(i - 1), root);
      }
      if (i >= 2) this->receive(this->tile(i - 2), root);
    });
  }

 private:
  /// Out of place, a part has a place to be copied to.
  __device__ void push(int t) {
    Base::push(t);
    const Tile own = this->tile(t);
#pragma unroll 1
    for (int k = 1; k < N; ++k)
#pragma unroll
      for (int u = 0; u < Base::unroll; ++u)
        if (own.receives(k, u)) own.keep(k, u, own.load(k, u));
  }
};

}  // namespace collectives::kernels
