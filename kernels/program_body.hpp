#pragma once

#include "kernels/operand.hpp"
#include "kernels/program.hpp"
#include "kernels/watch.hpp"
#include "kernels/wire.hpp"

// One rank's walk through a program, the same for a thread block and for a host thread. `Group` says who works together
// (thread, threads, block, blocks, sync); `Wire` says how a pack shows that it has arrived.
//
// Why no slot is read early or overwritten late, in short (planner/verify proves it for every schedule and shape):
// - a sentinel slot is read until none of its words is the sentinel, and emptied before its credit or the call's end is
//   published; a flagged slot, whoever's it is, is read after its flag was acquired by one thread and passed on by the
//   block barrier, and one that several read is written again after the credits of all;
// - within a call a slot is used again only after a credit; across calls the halves alternate, and the headers that every
//   rank waits for prove that all peers have finished the call before.
namespace collectives::kernels {

template <typename T, typename Op, typename Wire, typename Group, typename Relief>
class Walk {
 public:
  COLLECTIVES_HOST_DEVICE Walk(const ProgramArgs& args, Op op, Group group, Relief relief)
      : args_(args), op_(op), group_(group), watch_(args, args.common, relief) {}

  COLLECTIVES_HOST_DEVICE void run() {
    const bool herald = group_.block() == 0;
    Control& mine = begin(herald);
    const int iterations = static_cast<int>(args_.tiles) + args_.max_delay;
    for (int i = 0; i < iterations; ++i) {
      for (int s = 0; s < args_.steps; ++s) {
        const StepArgs& step = args_.step[s];
        const int t = i - step.delay;
        if (t >= 0 && t < static_cast<int>(args_.tiles)) run_step(step, static_cast<std::uint32_t>(t));
      }
      // After the first pushes and before the first polls, where waiting for the block's other threads costs nothing.
      if (i == 0) advance_epoch(mine, herald, group_.blocks());
    }
    if (iterations == 0) advance_epoch(mine, herald, group_.blocks());

    if (herald) each_peer([&](int rank) { watch_.await_header(rank); });
  }

 protected:
  static constexpr int width = 4;  ///< operands polled at once, as many as registers hold whatever the type

  /// Reads the epoch, announces the call if this block is its herald, and sees to it that slots may be written. Returns the rank's own words.
  COLLECTIVES_HOST_DEVICE Control& begin(bool herald) {
    Control& mine = *reinterpret_cast<Control*>(args_.pools[args_.rank] + Layout::control);
    turn_ = {observe_relaxed(&mine.next)};
    watch_.begin(turn_.epoch());
    if (herald) each_peer([&](int rank) { watch_.announce(rank); });
    if (turn_.follows_wide()) {
      // The call before used the slots of this one too: nobody writes them before everybody has finished it.
      each_peer([&](int rank) { watch_.await_header(rank); });
      group_.sync();
    }
    return mine;
  }

  /// Each peer by a thread of its own.
  template <typename Body>
  COLLECTIVES_HOST_DEVICE void each_peer(Body body) {
    for (int rank = group_.thread(); rank < args_.ranks; rank += group_.threads())
      if (rank != args_.rank) body(rank);
  }

  /// Once a block has read the epoch it adds its share to it; the next call on the stream is the first to see it moved on.
  COLLECTIVES_HOST_DEVICE void advance_epoch(Control& mine, bool herald, int blocks) {
    group_.sync();
    if (group_.thread() == 0) add_local(&mine.next, turn_.step(herald, args_.epoch_share, static_cast<std::uint32_t>(blocks), false));
  }

  COLLECTIVES_HOST_DEVICE void run_step(const StepArgs& step, std::uint32_t t) {
    const bool credits = args_.tiles > args_.stages;
    const EdgeArgs* receives = args_.edge + step.first_edge;
    const EdgeArgs* sends = receives + step.receives;
    await(step, receives, sends, t, credits && t >= args_.stages);
    // A thread alone has no barrier to meet: it leaves the memory of ranks that may still work on it alone.
    if constexpr (requires { Group::alone; })
      if (watch_.failed()) return;
    work(step, t);
    publish(step, receives, sends, t, credits);
  }

  COLLECTIVES_HOST_DEVICE void work(const StepArgs& step, std::uint32_t t) {
    const Region& region = args_.region[step.region];
    const EdgeArgs* receives = args_.edge + step.first_edge;
    const EdgeArgs* sends = receives + step.receives;
    const Tile tile = tile_of(region, t);
    if (step.receives == 0) {
      send_own(step, region, sends, tile, t);
    } else if (step.own == 0 && step.receives == 1) {
      pass_on(step, region, receives[0], sends, tile, t);
    } else {
      combine(step, region, receives, sends, tile, t);
    }
  }

  /// Each flag of the step by a thread of its own, then all threads.
  COLLECTIVES_HOST_DEVICE void await(const StepArgs& step, const EdgeArgs* receives, const EdgeArgs* sends, std::uint32_t t, bool credits) {
    const int flags = Wire::flagged ? step.receives : 0;
    const int waits = flags + (credits ? step.sends : 0);
    if (waits == 0) return;
    for (int w = group_.thread(); w < waits; w += group_.threads()) {
      const EdgeArgs& edge = w < flags ? receives[w] : sends[w - flags];
      std::byte* mine = words(edge, args_.rank);
      const Mark* word = w < flags ? flag(mine, edge.lane) : credit(mine, edge.credit);
      const Mark target = mark(watch_.epoch(), w < flags ? t + 1 : t - args_.stages + 1);
      while (!reached(observe(word), target) && watch_.keep_waiting()) {
      }
    }
    group_.sync();
  }

  COLLECTIVES_HOST_DEVICE void publish(const StepArgs& step, const EdgeArgs* receives, const EdgeArgs* sends, std::uint32_t t, bool credits) {
    const int flags = Wire::flagged ? step.sends : 0;
    const int signals = flags + (credits ? step.receives : 0);
    if (signals == 0) return;
    group_.sync();
    for (int s = group_.thread(); s < signals; s += group_.threads()) {
      const Mark value = mark(watch_.epoch(), t + 1);
      if constexpr (Wire::flagged) {
        if (s < flags) {
          Wire::publish(flag(words(sends[s], sends[s].peer), sends[s].lane), value);
          continue;
        }
      }
      const EdgeArgs& from = receives[s - flags];
      signal(credit(words(from, from.peer), from.credit), value);
    }
  }

  /// This rank's input or partial result goes out: several packs a thread at once, for there is nothing to wait for.
  COLLECTIVES_HOST_DEVICE void send_own(const StepArgs& step, const Region& region, const EdgeArgs* sends, Tile tile, std::uint32_t t) {
    constexpr int unroll = 4;
    const std::uint32_t stride = static_cast<std::uint32_t>(group_.threads());
    for (std::uint32_t base = group_.thread(); base < tile.packs; base += stride * unroll) {
      Pack pack[unroll];
      COLLECTIVES_UNROLL
      for (int u = 0; u < unroll; ++u)
        if (base + u * stride < tile.packs) pack[u] = own(step, region, tile.first + base + u * stride);
      each_slot(step, sends, t, [&](Pack* to) {
        COLLECTIVES_UNROLL
        for (int u = 0; u < unroll; ++u)
          if (base + u * stride < tile.packs) Wire::store(to + base + u * stride, pack[u]);
      });
      if (step.store) {
        COLLECTIVES_UNROLL
        for (int u = 0; u < unroll; ++u)
          if (base + u * stride < tile.packs) keep(region, tile.first + base + u * stride, pack[u]);
      }
    }
  }

  /// A finished value arrives, is kept and goes on.
  COLLECTIVES_HOST_DEVICE void pass_on(const StepArgs& step, const Region& region, const EdgeArgs& from, const EdgeArgs* sends, Tile tile, std::uint32_t t) {
    constexpr int unroll = 4;
    const std::uint32_t stride = static_cast<std::uint32_t>(group_.threads());
    Pack* arrivals = slot_from(from, t);
    for (std::uint32_t base = group_.thread(); base < tile.packs; base += stride * unroll) {
      Pack pack[unroll];
      COLLECTIVES_UNROLL
      for (int u = 0; u < unroll; ++u)
        if (base + u * stride < tile.packs) pack[u] = Wire::load(arrivals + base + u * stride);
      COLLECTIVES_UNROLL
      for (int u = 0; u < unroll; ++u) {
        const std::uint32_t p = base + u * stride;
        if (p >= tile.packs) break;
        while (!Wire::arrived(pack[u]) && watch_.keep_waiting()) pack[u] = Wire::load(arrivals + p);
        Wire::clear(arrivals + p);
        if (step.store) keep(region, tile.first + p, pack[u]);
        each_slot(step, sends, t, [&](Pack* to) { Wire::store(to + p, pack[u]); });
      }
    }
  }

  COLLECTIVES_HOST_DEVICE void combine(const StepArgs& step, const Region& region, const EdgeArgs* receives, const EdgeArgs* sends, Tile tile,
                                       std::uint32_t t) {
    int own_at = step.own == 0 ? -1 : 0;  // how many operands come before this rank's own
    while (own_at >= 0 && own_at < step.receives && receives[own_at].peer < args_.rank) ++own_at;
    const std::uint32_t stride = static_cast<std::uint32_t>(group_.threads());
    for (std::uint32_t p = group_.thread(); p < tile.packs; p += stride) {
      Pack mine{};
      if (own_at >= 0) mine = own(step, region, tile.first + p);
      Accumulators<T> sum{};
      bool first = true;
      for (int base = 0; base <= step.receives; base += width) {
        Pack pack[width];
        poll(receives + base, step.receives - base, p, t, pack);
        COLLECTIVES_UNROLL
        for (int w = 0; w < width; ++w) {
          if (base + w == own_at) take(sum, mine, first);
          if (base + w < step.receives) take(sum, pack[w], first);
        }
      }
      const Pack result = Wire::sanitize(round<T>(sum, step.complete ? args_.divisor : 1));
      each_slot(step, sends, t, [&](Pack* to) { Wire::store(to + p, result); });
      if (step.store) keep(region, tile.first + p, result);
    }
  }

  /// Up to `width` slots at once, each read until it is full, then emptied.
  COLLECTIVES_HOST_DEVICE void poll(const EdgeArgs* receives, int count, std::uint32_t p, std::uint32_t t, Pack (&pack)[width]) {
    const Pack* at[width];
    COLLECTIVES_UNROLL
    for (int w = 0; w < width; ++w) {
      at[w] = w < count ? slot_from(receives[w], t) + p : nullptr;
      if (w < count) pack[w] = Wire::load(at[w]);
    }
    for (bool all = false; !all;) {
      all = true;
      COLLECTIVES_UNROLL
      for (int w = 0; w < width; ++w)
        if (w < count && !Wire::arrived(pack[w])) {
          pack[w] = Wire::load(at[w]);
          all = false;
        }
      if (!all && !watch_.keep_waiting()) break;
    }
    COLLECTIVES_UNROLL
    for (int w = 0; w < width; ++w)
      if (w < count) Wire::clear(const_cast<Pack*>(at[w]));
  }

  COLLECTIVES_HOST_DEVICE void take(Accumulators<T>& sum, const Pack& pack, bool& first) const {
    // The first operand is taken as it is: adding it to zero would lose the sign of -0.
    if (first) {
      sum = unpack<T>(pack);
      first = false;
    } else {
      accumulate<T>(sum, pack, op_);
    }
  }

  /// Where what an edge brings is read, and where what it takes away is written.
  COLLECTIVES_HOST_DEVICE Pack* slot_from(const EdgeArgs& edge, std::uint32_t t) const { return slot(memory(edge, is_offered(edge) ? edge.peer : args_.rank), edge.row, t); }
  COLLECTIVES_HOST_DEVICE Pack* slot_to(const EdgeArgs& edge, std::uint32_t t) const { return slot(memory(edge, is_offered(edge) ? args_.rank : edge.peer), edge.row, t); }
  COLLECTIVES_HOST_DEVICE std::byte* memory(const EdgeArgs& edge, int rank) const { return (edge.common ? args_.common : args_.pools)[rank]; }
  static COLLECTIVES_HOST_DEVICE bool is_offered(const EdgeArgs& edge) { return Wire::flagged && edge.offered; }

  /// The memory in which a rank polls what an edge's other end tells it.
  COLLECTIVES_HOST_DEVICE std::byte* words(const EdgeArgs& edge, int rank) const { return (edge.common || is_offered(edge) ? args_.common : args_.pools)[rank]; }

  /// Every place that a step's result goes to, once.
  template <typename Body>
  COLLECTIVES_HOST_DEVICE void each_slot(const StepArgs& step, const EdgeArgs* sends, std::uint32_t t, Body body) const {
    for (int e = 0; e < step.sends; ++e)
      if (!Wire::flagged || !sends[e].repeats) body(slot_to(sends[e], t));
  }

  COLLECTIVES_HOST_DEVICE Pack* slot(std::byte* pool, int row, std::uint32_t t) const {
    const std::size_t index = (static_cast<std::size_t>(row) * group_.blocks() + group_.block()) * args_.stages + t % args_.stages;
    std::byte* half = pool + args_.layout.half(Wire::flagged, watch_.epoch());
    return reinterpret_cast<Pack*>(half) + index * args_.tile_packs;
  }
  COLLECTIVES_HOST_DEVICE Mark* flag(std::byte* pool, int lane) const { return mark_at(pool + Layout::flags, lane); }
  COLLECTIVES_HOST_DEVICE Mark* credit(std::byte* pool, int lane) const { return mark_at(pool + Layout::credits, lane); }
  COLLECTIVES_HOST_DEVICE Mark* mark_at(std::byte* marks, int lane) const {
    return reinterpret_cast<Mark*>(marks) + Layout::mark_index(watch_.epoch(), lane, group_.block());
  }

  /// Blocks share out a region tile by tile; the last tiles may be short or empty.
  COLLECTIVES_HOST_DEVICE Tile tile_of(const Region& region, std::uint32_t t) const {
    const std::uint64_t packs = (region.count + elements_per_pack<T> - 1) / elements_per_pack<T>;
    const std::uint64_t first = (static_cast<std::uint64_t>(t) * group_.blocks() + group_.block()) * region.tile_packs;
    const std::uint64_t left = first < packs ? packs - first : 0;
    return {first, static_cast<std::uint32_t>(left < region.tile_packs ? left : region.tile_packs)};
  }

  COLLECTIVES_HOST_DEVICE Pack own(const StepArgs& step, const Region& region, std::uint64_t p) const {
    const bool input = step.own == 1;
    const Pack pack = load_pack<T>(input ? region.in : region.out, region.count, input ? region.in_aligned : region.out_aligned, p);
    if (input && args_.factor_given) return Wire::sanitize(scale_pack<T>(pack, args_.factor_at != nullptr ? args_.factor_at : &args_.factor));
    return Wire::sanitize(pack);
  }
  COLLECTIVES_HOST_DEVICE void keep(const Region& region, std::uint64_t p, const Pack& pack) const {
    store_pack<T>(region.out, region.count, region.out_aligned, p, pack);
  }

  const ProgramArgs& args_;
  Op op_;
  Group group_;
  Watch<Relief, ProgramArgs> watch_;
  Turn turn_{};
};

}  // namespace collectives::kernels
