#pragma once

#include "kernels/program_body.hpp"

// A program in which each round has a crew of blocks to itself, over flags. Where every byte passes a bus that carries stores and loads at
// once, a block that does one after the other leaves half of it idle: so the blocks that write, those that combine and those that
// gather walk the tiles each at their own pace.
//
// What the crews of a rank share is the rank's own memory, one tile at a time: an input that is overwritten in place, an output that is sent on.
// So each crew follows the one before it on every tile, by a word in the rank's pool. A crew waits for earlier crews on the same tile and
// for anybody on earlier tiles: its steps on a tile may be taken together in any way, and it never waits for itself. Steps in a row that
// only send, or only keep what is finished, wait and signal together, with one fence. Few blocks do: each that waits polls over the bus.
namespace collectives::kernels {

/// `Group` is of one crew: it says which (crew) and which of its blocks (block, blocks), and who works together (thread, threads, sync).
template <typename T, typename Op, typename Wire, typename Group, typename Relief>
class CrewWalk : private Walk<T, Op, Wire, Group, Relief> {
  using Base = Walk<T, Op, Wire, Group, Relief>;
  static_assert(Wire::flagged);

 public:
  using Base::Base;

  COLLECTIVES_HOST_DEVICE void run() {
    const int crew = group_.crew(), blocks = group_.blocks() * args_.crews;
    const bool herald = crew == 0 && group_.block() == 0;
    Control& mine = this->begin(herald);
    const Span span = span_of(crew);
    known_ = mark(watch_.epoch(), 0);
    // The first crew pushes before it waits for its other threads.
    const std::uint32_t pushed = crew == 0 && args_.tiles > 0 ? 1 : 0;
    if (pushed == 0) this->advance_epoch(mine, herald, blocks);
    for (std::uint32_t t = 0; t < args_.tiles; ++t) {
      for (Batch batch = batch_from(span.first, span); batch.first < span.end; batch = batch_from(batch.end, span)) run_batch(batch, span, t);
      if (t + 1 == pushed) this->advance_epoch(mine, herald, blocks);
    }
    if (herald) this->each_peer([&](int rank) { watch_.await_header(rank); });
  }

 private:
  using Base::args_;
  using Base::group_;
  using Base::watch_;
  using Base::width;

  /// A crew's steps: those of one delay, which are in a row.
  struct Span {
    int first, end;
  };
  COLLECTIVES_HOST_DEVICE Span span_of(int crew) const {
    int first = 0;
    while (first < args_.steps && args_.step[first].delay < crew) ++first;
    int end = first;
    while (end < args_.steps && args_.step[end].delay == crew) ++end;
    return {first, end};
  }

  /// Steps whose waits and signals are taken together. Their edges are in a row too.
  struct Batch {
    int first, end;
    int receives, sends;
  };
  COLLECTIVES_HOST_DEVICE Batch batch_from(int first, const Span& span) const {
    Batch batch{first, first, 0, 0};
    for (; batch.end < span.end && (batch.end == first || are_alike(args_.step[first], args_.step[batch.end])); ++batch.end) {
      batch.receives += args_.step[batch.end].receives;
      batch.sends += args_.step[batch.end].sends;
    }
    return batch;
  }
  static COLLECTIVES_HOST_DEVICE bool only_keeps(const StepArgs& step) { return step.receives == 1 && step.own == 0 && step.sends == 0 && step.store; }
  static COLLECTIVES_HOST_DEVICE bool are_alike(const StepArgs& a, const StepArgs& b) {
    return (a.receives == 0 && b.receives == 0) || (only_keeps(a) && only_keeps(b));
  }

  COLLECTIVES_HOST_DEVICE void run_batch(const Batch& batch, const Span& span, std::uint32_t t) {
    const bool credits = args_.tiles > args_.stages;
    await(batch, span, t, credits && t >= args_.stages);
    if (batch.sends == 0 && batch.end - batch.first > 1) {
      keep_all(batch, t);
    } else {
      for (int s = batch.first; s < batch.end; ++s) this->work(args_.step[s], t);
    }
    publish(batch, span, t, credits);
  }

  /// Each flag and credit by a thread of its own, and how far the crew before has come, then all threads.
  COLLECTIVES_HOST_DEVICE void await(const Batch& batch, const Span& span, std::uint32_t t, bool credits) {
    const EdgeArgs* receives = args_.edge + args_.step[batch.first].first_edge;
    const EdgeArgs* sends = receives + batch.receives;
    const int own = batch.receives + (span.first > 0);
    const int waits = own + (credits ? batch.sends : 0);
    if (waits == 0) return;
    // A thread that waits for the same word at every tile may have seen more than it wanted: each look goes over the bus that the data need.
    const bool same = batch.first == span.first && batch.end == span.end && waits <= group_.threads();
    for (int w = group_.thread(); w < waits; w += group_.threads()) {
      const Mark target = mark(watch_.epoch(), w < own ? t + 1 : t - args_.stages + 1);
      if (same && reached(known_, target)) continue;
      const Mark* word = w < batch.receives ? this->flag(this->words(receives[w], args_.rank), receives[w].lane)
                         : w < own          ? progress(args_.step[span.first - 1].delay)
                                            : this->credit(this->words(sends[w - own], args_.rank), sends[w - own].credit);
      known_ = observe(word);
      while (!reached(known_, target) && watch_.keep_waiting()) known_ = observe(word);
    }
    group_.sync();
  }

  COLLECTIVES_HOST_DEVICE void publish(const Batch& batch, const Span& span, std::uint32_t t, bool credits) {
    const EdgeArgs* receives = args_.edge + args_.step[batch.first].first_edge;
    const EdgeArgs* sends = receives + batch.receives;
    const int peers = batch.sends + (credits ? batch.receives : 0);
    const int signals = peers + (batch.end == span.end && span.end < args_.steps);
    if (signals == 0) return;
    group_.sync();
    for (int s = group_.thread(); s < signals; s += group_.threads()) {
      const Mark value = mark(watch_.epoch(), t + 1);
      if (s < batch.sends) {
        Wire::publish(this->flag(this->words(sends[s], sends[s].peer), sends[s].lane), value);
      } else if (s < peers) {
        const EdgeArgs& from = receives[s - batch.sends];
        signal(this->credit(this->words(from, from.peer), from.credit), value);
      } else {
        signal(progress(args_.step[batch.first].delay), value);
      }
    }
  }

  /// Finished values arrive in several lanes, and each is kept: a pack of every lane at once.
  COLLECTIVES_HOST_DEVICE void keep_all(const Batch& batch, std::uint32_t t) {
    const std::uint32_t stride = static_cast<std::uint32_t>(group_.threads());
    for (int first = batch.first; first < batch.end; first += width) {
      const Pack* arrivals[width];
      Tile tile[width];
      std::uint32_t longest = 0;
      COLLECTIVES_UNROLL
      for (int w = 0; w < width; ++w) {
        arrivals[w] = nullptr;
        tile[w] = {};
        if (first + w >= batch.end) continue;
        const StepArgs& step = args_.step[first + w];
        arrivals[w] = this->slot_from(args_.edge[step.first_edge], t);
        tile[w] = this->tile_of(args_.region[step.region], t);
        longest = tile[w].packs > longest ? tile[w].packs : longest;
      }
      for (std::uint32_t p = group_.thread(); p < longest; p += stride) {
        Pack pack[width];
        COLLECTIVES_UNROLL
        for (int w = 0; w < width; ++w)
          if (p < tile[w].packs) pack[w] = Wire::load(arrivals[w] + p);
        COLLECTIVES_UNROLL
        for (int w = 0; w < width; ++w)
          if (p < tile[w].packs) this->keep(args_.region[args_.step[first + w].region], tile[w].first + p, pack[w]);
      }
    }
  }

  /// How far the crew with this delay has come on this rank.
  COLLECTIVES_HOST_DEVICE Mark* progress(int delay) const {
    return reinterpret_cast<Mark*>(args_.pools[args_.rank] + Layout::progress) + delay * max_blocks + group_.block();
  }

  Mark known_ = 0;  ///< what this thread has last seen of a word that it waited for
};

}  // namespace collectives::kernels
