#pragma once

#include "base/direct_shape.hpp"
#include "kernels/programmatic.cuh"
#include "kernels/streamed_call.cuh"

// Blocks from every rank to every other in one hop, bit for bit: all-gather, all-to-all, broadcast, scatter and gather. A thread's packs of a
// block and the word of their escapes belong to the same thread on both sides; the words of a tile lie behind its packs. Where a thread has
// several packs only those words travel without which packs cannot be read: mostly none, and one a thread would be a sixteenth of what travels.
// Sends what it is given, (N-1)/N of an all-gather's message a rank.
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
  __device__ std::uint32_t* word(Pack* lane) const { return words(lane) + threadIdx.x; }

 private:
  __device__ std::uint32_t in_tile(int u) const { return threadIdx.x + u * workers_; }
  __device__ std::uint32_t index(int u) const { return first_ + in_tile(u); }
  __device__ std::uint32_t* words(Pack* lane) const { return reinterpret_cast<std::uint32_t*>(lane + row_ + args_.tile_packs); }
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
  using Base::lane;
  using Tile = MovingTile;

  /// A thread's packs for peer k. Not escaped: who loads several must not wait for one before asking for the next.
  __device__ void load(const Tile& tile, int k, Pack (&pack)[unroll]) const {
#pragma unroll
    for (int u = 0; u < unroll; ++u)
      if (tile.sends(k, u)) pack[u] = tile.load(k, u);
  }
  __device__ void send(const Tile& tile, int k, Pack (&pack)[unroll]) const {
    std::uint32_t escaped = 0;
    bool told = !spares_words;
#pragma unroll
    for (int u = 0; u < unroll; ++u) {
      if (!tile.sends(k, u)) continue;
      escaped |= EscapedWire::escape(pack[u]) << 4 * u;
      if (spares_words) told = told || EscapedWire::is_marked(pack[u]);
      EscapedWire::store(this->chunks_at(k, tile.slot(u)), pack[u]);
    }
    if (told && tile.sends(k)) signal_relaxed(tile.word(this->chunks_at(k, 0)), escaped);
  }

  /// What a thread has of a tile that others sent.
  struct Arrivals {
    Pack pack[N - 1][unroll];
    std::uint32_t word[N - 1];
  };

  /// Asks for what all peers but one sent, whether it has come or not.
  __device__ void look(const Tile& tile, Arrivals& in, int but = 0) const {
    look(tile, in, but, [](const auto&) { return true; });
  }

  /// Waits for what was asked for and puts it in its place; the slots are empty again.
  __device__ void receive(const Tile& tile, Arrivals& in, int but = 0) {
    const auto is_missing = [](const auto& what) { return !EscapedWire::arrived(what); };
    while (!look(tile, in, but, is_missing))
      if (!this->watch_.keep_waiting()) break;
#pragma unroll
    for (int k = 1; k < N; ++k) {
      if (k == but || !tile.receives(k)) continue;
      settle(tile, k, in.pack[k - 1], spares_words ? telling_word(tile, k, in.pack[k - 1]) : in.word[k - 1]);
    }
  }

  __device__ void receive(const Tile& tile, int but = 0) {
    Arrivals in;
    look(tile, in, but);
    receive(tile, in, but);
  }

  /// What peer `from` sent goes on to the other peers as it came, and into its place.
  __device__ void relay(const Tile& tile, int from) {
    static_assert(spares_words, "a word that always comes would be waited for with the packs");
    Pack pack[unroll];
    if (!tile.receives(from)) return;
    for (bool all = false; !all;) {
      all = true;
#pragma unroll
      for (int u = 0; u < unroll; ++u) {
        if (!tile.receives(from, u)) continue;
        pack[u] = EscapedWire::load(lane(from) + tile.slot(u));
        all = all && EscapedWire::arrived(pack[u]);
      }
      if (!all && !this->watch_.keep_waiting()) break;
    }
    const std::uint32_t word = telling_word(tile, from, pack);
#pragma unroll
    for (int k = 1; k < N; ++k) {
      if (k == from) continue;
#pragma unroll
      for (int u = 0; u < unroll; ++u)
        if (tile.receives(from, u)) EscapedWire::store(this->chunks_at(k, tile.slot(u)), pack[u]);
      if (EscapedWire::arrived(word)) signal_relaxed(tile.word(this->chunks_at(k, 0)), word);
    }
    settle(tile, from, pack, word);
  }

  /// Is what this rank keeps for itself what it sends peer 1, as in broadcasts and all-gathers?
  __device__ bool sends_own() const { return args_.part[0].in == args_.part[1].in && args_.part[0].in_bytes == args_.part[1].in_bytes; }
  /// What this rank keeps for itself: asked for, and put in its place.
  __device__ void take(const Tile& tile, Pack (&pack)[unroll]) const { load(tile, 0, pack); }
  __device__ void put(const Tile& tile, const Pack (&pack)[unroll]) const {
#pragma unroll
    for (int u = 0; u < unroll; ++u)
      if (tile.sends(0, u)) tile.keep(0, u, pack[u]);
  }

 private:
  static constexpr bool spares_words = unroll > 1;  ///< a small call waits for its instructions, and sends few words

  /// Where what comes from peer k arrives.
  __device__ Pack* lane(int k) const { return this->operand_slot(k - 1, 0); }

  /// Asks for what is missing. True if nothing is.
  template <typename Missing>
  __device__ bool look(const Tile& tile, Arrivals& in, int but, Missing is_missing) const {
    bool all = true;
#pragma unroll
    for (int k = 1; k < N; ++k) {
      if (k == but) continue;
      if (!spares_words && tile.receives(k) && is_missing(in.word[k - 1])) in.word[k - 1] = observe_relaxed(tile.word(lane(k))), all = false;
#pragma unroll
      for (int u = 0; u < unroll; ++u)
        if (tile.receives(k, u) && is_missing(in.pack[k - 1][u])) in.pack[k - 1][u] = EscapedWire::load(lane(k) + tile.slot(u)), all = false;
    }
    return all;
  }

  /// The word that says what the packs from peer k were, once it has come; an empty one if they need none.
  __device__ std::uint32_t telling_word(const Tile& tile, int k, const Pack (&pack)[unroll]) {
    bool needed = false;
#pragma unroll
    for (int u = 0; u < unroll; ++u)
      if (tile.receives(k, u)) needed = needed || EscapedWire::is_marked(pack[u]);
    std::uint32_t word = EscapedWire::empty;
    while (needed && !EscapedWire::arrived(word)) {
      word = observe_relaxed(tile.word(lane(k)));
      if (!EscapedWire::arrived(word) && !this->watch_.keep_waiting()) break;
    }
    return word;
  }

  /// What came from peer k goes where it belongs.
  __device__ void settle(const Tile& tile, int k, Pack (&pack)[unroll], std::uint32_t word) const {
    const bool told = !spares_words || EscapedWire::arrived(word);
    const std::uint32_t escaped = told ? word : 0;
#pragma unroll
    for (int u = 0; u < unroll; ++u)
      if (tile.receives(k, u)) {
        EscapedWire::restore(pack[u], escaped >> 4 * u);
        tile.keep(k, u, pack[u]);
        EscapedWire::clear(lane(k) + tile.slot(u));
      }
    if (told) signal_relaxed(tile.word(lane(k)), EscapedWire::empty);
  }
};

/// One tile a block: few packs a thread, all sent before any is waited for.
template <int N, int unroll>
class MoveOnce : Mover<N, unroll, DirectCall<MoveArgs, EscapedWire, N>> {
  using Base = Mover<N, unroll, DirectCall<MoveArgs, EscapedWire, N>>;

 public:
  using Base::Base;

  __device__ void run() {
    begin_behind_others(this->args_.early);
    const Turn turn = this->turn();
    const std::uint32_t row = blockIdx.x * escaped_row_packs(this->args_.tile_packs, this->workers());
    const typename Base::Tile tile(this->args_, blockIdx.x * this->args_.tile_packs, row, this->workers());
    Pack pack[N - 1][unroll];
    if (!this->is_courier()) {  // while the epoch is on its way
#pragma unroll
      for (int k = 1; k < N; ++k) this->load(tile, k, pack[k - 1]);
    }
    this->begin(turn, false);
    this->announce();
    this->await_all(turn.follows_wide());
    if (!this->is_courier()) {
#pragma unroll
      for (int k = 1; k < N; ++k) this->send(tile, k, pack[k - 1]);
    }
    this->advance_epoch(turn, false);
    if (!this->is_courier()) {
      Pack own[unroll];
      this->take(tile, own);
      this->put(tile, own);
      this->receive(tile);
    } else if (blockIdx.x == 0) {
      this->await_headers(this->args_, this->watch_.epoch());
    }
  }
};

/// Many tiles: at iteration i a block sends tile i and receives tile i-1. A load waits behind the stores to peers that its multiprocessor made
/// before it, so what comes is asked for before sending, and so is, between two ranks in one hop, what is sent next; else, as it would take as many
/// registers again, that is asked for before waiting for what comes.
/// Credits are awaited of those to whom a rank sends, and given to those from whom it receives. All that is waited for at an iteration, packs and
/// credits, is of earlier iterations of the peers: whoever is furthest behind goes on.
template <int N, bool fetches_first = N == 2>
class MoveStreamed : protected Mover<N, streamed_move_packs(N), StreamedCall<MoveArgs, EscapedWire, N>> {
  using Base = Mover<N, streamed_move_packs(N), StreamedCall<MoveArgs, EscapedWire, N>>;

 public:
  using Base::Base;

  __device__ void run() {
    const MoveArgs::Part& part = this->args_.part[(this->lane() - this->args_.rank + N) % N];
    const bool fills = this->has_peer() && part.in_bytes > 0, empties = this->has_peer() && part.out_bytes > 0;
    fetch(0, ahead_);
    Base::run(tiles() + 1, empties, [&](int i) {
      typename Base::Arrivals in;
      if (i >= 1) this->look(tile(i - 1), in);
      if (i < tiles()) push(i, fills);
      if (i >= 1) this->receive(tile(i - 1), in);
    });
  }

 protected:
  using typename Base::Tile;
  static constexpr int unroll = streamed_move_packs(N);

  __device__ int tiles() const { return static_cast<int>(this->args_.tiles); }

  __device__ Tile tile(int t) const {
    const auto& args = this->args_;
    const std::uint32_t index = static_cast<std::uint32_t>(t), rows = blockIdx.x * args.stages + index % args.stages;
    return {args, (index * gridDim.x + blockIdx.x) * args.tile_packs, rows * escaped_row_packs(args.tile_packs, this->workers()), this->workers()};
  }

  using Packs = Pack[N - 1][unroll];

  __device__ void fetch(int t, Packs& to) const {
    if (this->is_courier() || t >= tiles()) return;
#pragma unroll
    for (int k = 1; k < N; ++k) this->load(tile(t), k, to[k - 1]);
  }
  /// To peers of whom some lane `fills` the slots.
  __device__ void push(int t, bool fills) {
    Packs next;
    if constexpr (fetches_first) fetch(t + 1, next);
    this->await_credit(t, fills);
    const bool sends_own = this->sends_own();
    Pack own[unroll];
    if (sends_own) {
      this->put(tile(t), ahead_[0]);  // before sending escapes it
    } else {
      this->take(tile(t), own);
    }
#pragma unroll
    for (int k = 1; k < N; ++k) this->send(tile(t), k, ahead_[k - 1]);
    if (!sends_own) this->put(tile(t), own);
    if constexpr (fetches_first) {
#pragma unroll
      for (int k = 0; k < N - 1; ++k)
#pragma unroll
        for (int u = 0; u < unroll; ++u) ahead_[k][u] = next[k][u];
    } else {
      fetch(t + 1, ahead_);
    }
  }

  Packs ahead_;  ///< of the tile that is sent next
};

/// A two-shot broadcast: at iteration i the root sends everyone tile i of its part, who passes on tile i-1 of it and receives the others'
/// tile i-2. The root sends the message once.
template <int N>
class BroadcastStreamed : MoveStreamed<N, false> {
  using Base = MoveStreamed<N, false>;
  using typename Base::Tile;

 public:
  using Base::Base;

  __device__ void run() {
    const int root = (this->args_.root - this->args_.rank + N) % N;
    if (root == 0) this->fetch(0, this->ahead_);
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
  /// Out of place, a part has a place to be copied to, unless it is the whole message.
  __device__ void push(int t) {
    const Tile own = this->tile(t);
#pragma unroll
    for (int k = 1; k < N; ++k)
#pragma unroll
      for (int u = 0; u < Base::unroll; ++u)
        if (own.receives(k, u)) own.keep(k, u, this->ahead_[k - 1][u]);
    Base::push(t, this->has_peer());
  }
};

}  // namespace collectives::kernels
