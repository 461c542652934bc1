#pragma once

#include "kernels/mail.hpp"
#include "kernels/operand.hpp"
#include "kernels/watch.hpp"
#include "kernels/wire.hpp"

// How messages travel between two ranks, the same for a thread block and for a host thread. Each direction of each pair has a few
// lanes; a lane is a first-in-first-out of slots in the receiver's pool, numbered through for as long as the communicator lives.
// A message is cut into tiles, which go to the lanes in turn. Tile number n of a lane lies in slot n % mail_stages:
//   the sender waits until the lane's credit says that n - mail_stages + 1 tiles are read, stores the tile, and then its flag
//   (n + 1, what the message's length hashes to);
//   the receiver waits for a flag of just that number, copies the tile out, and gives the credit n + 1.
// Both ends count tiles in their own pools. They agree on the lanes and tiles of a message because they agree on its length; if
// they do not, lane 0 finds it out.
namespace collectives::kernels {

/// How a message of this length is cut.
struct MessageCut {
  std::uint32_t tile_packs;
  std::uint64_t tiles;
  std::uint32_t lanes;
};
COLLECTIVES_HOST_DEVICE MessageCut cut_message(std::uint64_t bytes, std::uint32_t lanes, std::uint32_t slot_packs) {
  constexpr std::uint64_t line = 32;  // 512 bytes: fewer are not worth a flag of their own
  const std::uint64_t packs = (bytes + sizeof(Pack) - 1) / sizeof(Pack);
  const std::uint64_t share = ((packs + lanes - 1) / lanes + line - 1) / line * line;
  const std::uint64_t tile = share < slot_packs ? share : slot_packs;
  const std::uint64_t tiles = (packs + tile - 1) / tile;
  return {static_cast<std::uint32_t>(tile), tiles, static_cast<std::uint32_t>(tiles < lanes ? tiles : lanes)};
}

/// One lane of a queue, from its first message to its last.
template <typename Group, typename Relief>
class MailLane {
 public:
  COLLECTIVES_HOST_DEVICE MailLane(const MailArgs& args, const MailQueue& queue, int lane, Group group, Relief relief)
      : args_(args), queue_(queue), lane_(lane), group_(group), relief_(relief), next_(observe_relaxed(counter())) {
    open_message();
  }

  COLLECTIVES_HOST_DEVICE bool done() const { return message_ == queue_.count; }
  COLLECTIVES_HOST_DEVICE bool failed() const { return failed_; }

  /// Can the next tile move? For one thread, which tells the others.
  COLLECTIVES_HOST_DEVICE bool ready() {
    if (failed_) return false;
    if (queue_.sends) return static_cast<std::int32_t>(static_cast<std::uint32_t>(observe(credit(here())) >> 32) + mail_stages - next_) > 0;
    const Mark seen = observe(flag(here()));
    if (static_cast<std::uint32_t>(seen >> 32) != next_ + 1) return false;
    if (static_cast<std::uint32_t>(seen) == hash_of(bytes())) return true;
    fail(FaultKind::mismatch, queue_.peer);
    return false;
  }

  /// To be asked after each try in vain. False: give up, something has failed.
  COLLECTIVES_HOST_DEVICE bool keep_waiting() {
    if (failed_) return false;
    if (++tries_ % look_up_every != 0) return true;
    relief_();
    if (since_ == 0) since_ = now_ns();
    look_for_failure();
    return !failed_;
  }

  /// The tile whose turn it is, once it is ready.
  COLLECTIVES_HOST_DEVICE void move() {
    const std::uint64_t first = tile_ * cut_.tile_packs, all = (bytes() + sizeof(Pack) - 1) / sizeof(Pack);
    const auto packs = static_cast<std::uint32_t>(all - first < cut_.tile_packs ? all - first : cut_.tile_packs);
    if (queue_.sends) {
      send(first, packs);
      group_.sync();
      if (group_.thread() == 0) signal(flag(there()), mark(next_ + 1, hash_of(bytes())));
    } else {
      receive(first, packs);
      group_.sync();
      if (group_.thread() == 0) signal(credit(there()), mark(next_ + 1, 0));
    }
    ++next_;
    since_ = 0;
    tile_ += cut_.lanes;
    if (tile_ < cut_.tiles) return;
    ++message_;
    open_message();
    if (done() && group_.thread() == 0) signal_relaxed(counter(), next_);
  }

 private:
  static constexpr int unroll = 4;
#if defined(__CUDACC__)
  static constexpr std::uint32_t look_up_every = 4096;
#else
  static constexpr std::uint32_t look_up_every = 64;
#endif

  COLLECTIVES_HOST_DEVICE const MessageArgs& message() const { return args_.message[queue_.first + message_]; }
  COLLECTIVES_HOST_DEVICE std::uint64_t bytes() const { return message().bytes; }
  static COLLECTIVES_HOST_DEVICE std::uint32_t hash_of(std::uint64_t bytes) { return static_cast<std::uint32_t>(bytes ^ (bytes >> 32) * 0x9e3779b9u); }

  /// The next message that has a tile for this lane.
  COLLECTIVES_HOST_DEVICE void open_message() {
    for (; !done(); ++message_) {
      cut_ = cut_message(bytes(), args_.lanes, args_.slot_packs);
      tile_ = static_cast<std::uint64_t>(lane_);
      if (tile_ < cut_.lanes) break;
    }
    if (done()) return;
    const auto address = reinterpret_cast<std::uintptr_t>(queue_.sends ? message().in : message().out);
    aligned_ = address % sizeof(Pack) == 0;
    const std::uintptr_t odd = address | static_cast<std::uintptr_t>(bytes());
    unit_ = odd % 4 == 0 ? 4 : odd % 2 == 0 ? 2 : 1;
  }

  COLLECTIVES_HOST_DEVICE void send(std::uint64_t first, std::uint32_t packs) {
    Pack* to = slot(there(), args_.rank);
    const auto stride = static_cast<std::uint32_t>(group_.threads());
    for (std::uint32_t base = group_.thread(); base < packs; base += stride * unroll) {
      Pack pack[unroll];
      COLLECTIVES_UNROLL
      for (int u = 0; u < unroll; ++u)
        if (base + u * stride < packs) pack[u] = load(first + base + u * stride);
      COLLECTIVES_UNROLL
      for (int u = 0; u < unroll; ++u)
        if (base + u * stride < packs) Wire::store(to + base + u * stride, pack[u]);
    }
  }

  COLLECTIVES_HOST_DEVICE void receive(std::uint64_t first, std::uint32_t packs) {
    const Pack* from = slot(here(), queue_.peer);
    const auto stride = static_cast<std::uint32_t>(group_.threads());
    for (std::uint32_t base = group_.thread(); base < packs; base += stride * unroll) {
      Pack pack[unroll];
      COLLECTIVES_UNROLL
      for (int u = 0; u < unroll; ++u)
        if (base + u * stride < packs) pack[u] = Wire::load(from + base + u * stride);
      COLLECTIVES_UNROLL
      for (int u = 0; u < unroll; ++u)
        if (base + u * stride < packs) store(first + base + u * stride, pack[u]);
    }
  }

  COLLECTIVES_HOST_DEVICE Pack load(std::uint64_t p) const {
    const void* in = message().in;
    if (aligned_ && (p + 1) * sizeof(Pack) <= bytes()) return static_cast<const Pack*>(in)[p];
    if (unit_ == 4) return load_by_element<std::uint32_t>(in, bytes() / 4, p);
    if (unit_ == 2) return load_by_element<std::uint16_t>(in, bytes() / 2, p);
    return load_by_element<std::uint8_t>(in, bytes(), p);
  }
  COLLECTIVES_HOST_DEVICE void store(std::uint64_t p, const Pack& pack) const {
    void* out = message().out;
    if (aligned_ && (p + 1) * sizeof(Pack) <= bytes()) {
      static_cast<Pack*>(out)[p] = pack;
    } else if (unit_ == 4) {
      store_by_element<std::uint32_t>(out, bytes() / 4, p, pack);
    } else if (unit_ == 2) {
      store_by_element<std::uint16_t>(out, bytes() / 2, p, pack);
    } else {
      store_by_element<std::uint8_t>(out, bytes(), p, pack);
    }
  }

  /// The memory in which this rank hears from the peer, and that in which the peer hears from it.
  COLLECTIVES_HOST_DEVICE std::byte* here() const { return (queue_.common ? args_.common : args_.pools)[args_.rank]; }
  COLLECTIVES_HOST_DEVICE std::byte* there() const { return (queue_.common ? args_.common : args_.pools)[queue_.peer]; }
  static COLLECTIVES_HOST_DEVICE MailBoard& board(std::byte* pool) { return *reinterpret_cast<MailBoard*>(pool + Layout::mail_board); }

  COLLECTIVES_HOST_DEVICE Pack* slot(std::byte* pool, int sender) const {
    const std::size_t index = (static_cast<std::size_t>(sender) * args_.lanes + static_cast<std::size_t>(lane_)) * mail_stages + next_ % mail_stages;
    return reinterpret_cast<Pack*>(pool + args_.layout.mail()) + index * args_.slot_packs;
  }
  /// The words are the receiver's flag and the sender's credit; `pool` is the one they are in, the other end's rank their place there.
  COLLECTIVES_HOST_DEVICE Mark* flag(std::byte* pool) const { return &board(pool).flags[queue_.sends ? args_.rank : queue_.peer][lane_][next_ % mail_stages]; }
  COLLECTIVES_HOST_DEVICE Mark* credit(std::byte* pool) const { return &board(pool).credits[queue_.sends ? queue_.peer : args_.rank][lane_]; }
  COLLECTIVES_HOST_DEVICE std::uint32_t* counter() const {
    MailBoard& own = board(args_.pools[args_.rank]);
    return &(queue_.sends ? own.sent : own.received)[queue_.peer][lane_];
  }

  COLLECTIVES_HOST_DEVICE Place<MailArgs> place() const {
    const Control& own = *reinterpret_cast<Control*>(args_.pools[args_.rank] + Layout::control);
    return {&args_, args_.common, static_cast<Epoch>(observe_relaxed(&own.next) >> 32)};
  }
  COLLECTIVES_HOST_DEVICE void fail(FaultKind kind, Mark about) {
    failed_ = true;
    record_failure(place(), kind, about);
  }
  COLLECTIVES_HOST_DEVICE void look_for_failure() {
    if (observe_relaxed(&args_.fault->abort) != 0) return fail(FaultKind::aborted, args_.rank);
    const Mark word = observe_relaxed(&place().control(args_.rank).poison);
    if (word != 0) return fail(FaultKind::poisoned, word);
    // Read before the tile is looked for once more: who has left had sent and read all it meant to.
    const std::uint32_t left = observe_relaxed(&args_.fault->left);
    if (ready() || failed_) return;
    if ((left >> queue_.peer & 1u) != 0) return fail(FaultKind::left, queue_.peer);
    if (now_ns() - since_ > args_.timeout_ns) fail(FaultKind::timeout, Mark{1} << queue_.peer);
  }

  using Wire = FlaggedWire<std::uint8_t>;

  const MailArgs& args_;
  const MailQueue& queue_;
  int lane_;
  Group group_;
  Relief relief_;
  std::uint32_t next_;  ///< the lane's next tile
  int message_ = 0;
  std::uint64_t tile_ = 0;  ///< of the message
  MessageCut cut_{};
  bool aligned_ = false;
  int unit_ = 1;  ///< bytes that are loaded at once where a pack cannot be
  std::uint32_t tries_ = 0;
  std::uint64_t since_ = 0;
  bool failed_ = false;
};

}  // namespace collectives::kernels
