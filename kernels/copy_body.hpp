#pragma once

#include "kernels/copy.hpp"
#include "kernels/operand.hpp"
#include "kernels/watch.hpp"

// The bodies of the kernels beside copy engines, the same for a thread block and for a host thread that stands in for one.
namespace collectives::kernels {

template <typename Group, typename Relief>
class CopySync {
 public:
  COLLECTIVES_HOST_DEVICE CopySync(const CopyCallArgs& args, Group group, Relief relief) : args_(args), group_(group), watch_(args, args.pools, relief) {}

  /// Who has every peer's header knows that all have finished the call before, and so have read all that is in their slots.
  COLLECTIVES_HOST_DEVICE void open() {
    const Epoch epoch = next();
    watch_.begin(epoch);
    each_of(~0u, [&](int peer) { watch_.announce(peer); });
    each_of(~0u, [&](int peer) { watch_.await_header(peer); });
    group_.sync();
    if (group_.thread() == 0) signal_relaxed(&control().next, mark(epoch + 1, 0));
  }

  /// A rank that has failed tells nobody: what it copied is not to be used.
  COLLECTIVES_HOST_DEVICE void meet(const CopyMeeting& meeting) {
    const Epoch epoch = next() - 1;
    watch_.begin(epoch);
    if (watch_.dead()) return;
    const Mark target = mark(epoch, meeting.group + 1);
    each_of(meeting.tell, [&](int peer) { signal(arrived(peer, args_.rank), target); });
    each_of(meeting.await, [&](int peer) {
      while (!reached(observe(arrived(args_.rank, peer)), target) && watch_.keep_waiting()) {
      }
    });
  }

 private:
  /// Each of these peers by a thread of its own.
  template <typename Body>
  COLLECTIVES_HOST_DEVICE void each_of(std::uint32_t peers, Body body) {
    for (int rank = group_.thread(); rank < args_.ranks; rank += group_.threads())
      if (rank != args_.rank && (peers >> rank & 1u) != 0) body(rank);
  }

  COLLECTIVES_HOST_DEVICE Control& control() const { return *reinterpret_cast<Control*>(args_.own + Layout::control); }
  COLLECTIVES_HOST_DEVICE Epoch next() const { return Turn{observe_relaxed(&control().next)}.epoch(); }
  COLLECTIVES_HOST_DEVICE Mark* arrived(int rank, int from) const {
    return &reinterpret_cast<CopyBoard*>(args_.pools[rank] + Layout::copy_board)->arrived[from];
  }

  const CopyCallArgs& args_;
  Group group_;
  Watch<Relief, CopyCallArgs> watch_;
};

/// Combines the operands in ascending order of rank, as every direct algorithm does. `Group` counts all threads of the call.
template <typename T, typename Op, typename Group>
class CopySum {
 public:
  COLLECTIVES_HOST_DEVICE CopySum(const CopySumArgs& args, Op op, Group group) : args_(args), op_(op), group_(group) {}

  COLLECTIVES_HOST_DEVICE void run() const {
    // As many loads under way whatever the number of ranks; fewer of types that fill the registers with sums.
    constexpr int packs = elements_per_pack<T> > 8 ? 1 : 2;
    args_.ranks == 2 ? run_whole<2 * packs, 2>() : run_whole<packs, 4>();
    run_rest();
  }

 private:
  /// Packs that all operands have in full: `unroll` of them at a time, `width` ranks at a time.
  template <int unroll, int width>
  COLLECTIVES_HOST_DEVICE void run_whole() const {
    const auto stride = static_cast<std::uint64_t>(group_.threads());
    for (auto base = static_cast<std::uint64_t>(group_.thread()); base < args_.whole; base += stride * unroll) {
      Accumulators<T> sum[unroll];
      for (int from = 0; from < args_.ranks; from += width) {
        Pack pack[unroll][width];
        COLLECTIVES_UNROLL
        for (int w = 0; w < width; ++w) {
          if (from + w >= args_.ranks) break;
          const Pack* operand = static_cast<const Pack*>(args_.operand[from + w]);
          COLLECTIVES_UNROLL
          for (int u = 0; u < unroll; ++u)
            if (base + u * stride < args_.whole) pack[u][w] = load_shared(operand + base + u * stride);
        }
        COLLECTIVES_UNROLL
        for (int u = 0; u < unroll; ++u) {
          if (base + u * stride >= args_.whole) break;
          COLLECTIVES_UNROLL
          for (int w = 0; w < width; ++w)
            if (from + w < args_.ranks) take(sum[u], pack[u][w], from + w == 0);
        }
      }
      COLLECTIVES_UNROLL
      for (int u = 0; u < unroll; ++u)
        if (base + u * stride < args_.whole) static_cast<Pack*>(args_.out)[base + u * stride] = round<T>(sum[u], args_.divisor);
    }
  }

  /// The last, short pack; and every pack of buffers that are misaligned.
  COLLECTIVES_HOST_DEVICE void run_rest() const {
    const std::uint64_t packs = (args_.count + elements_per_pack<T> - 1) / elements_per_pack<T>;
    for (std::uint64_t p = args_.whole + static_cast<std::uint64_t>(group_.thread()); p < packs; p += static_cast<std::uint64_t>(group_.threads())) {
      Accumulators<T> sum;
      for (int rank = 0; rank < args_.ranks; ++rank) {
        const void* operand = args_.operand[rank];
        const Pack pack = rank == args_.rank ? load_pack<T>(operand, args_.count, args_.in_aligned, p) : load_pack<T>(operand, args_.count, true, p);
        take(sum, pack, rank == 0);
      }
      store_pack<T>(args_.out, args_.count, args_.out_aligned, p, round<T>(sum, args_.divisor));
    }
  }

  /// The first operand as it is: adding it to zero would lose the sign of -0.
  COLLECTIVES_HOST_DEVICE void take(Accumulators<T>& sum, const Pack& pack, bool first) const {
    if (first) {
      sum = unpack<T>(pack);
    } else {
      accumulate<T>(sum, pack, op_);
    }
  }

  const CopySumArgs& args_;
  Op op_;
  Group group_;
};

}  // namespace collectives::kernels
