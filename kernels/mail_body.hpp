#pragma once

#include "kernels/mail.hpp"
#include "kernels/operand.hpp"
#include "kernels/watch.hpp"
#include "kernels/wire.hpp"

// How messages travel between two ranks, the same for a thread block and for a host thread. Each direction of each pair has
// lanes; a lane is a first-in-first-out of slots in the receiver's pool, its tiles numbered through for as long as the communicator
// lives, by both ends in their own pools. A message is cut into tiles, which go to the lanes in turn. Tile number n of a lane lies in
// slot n % stages:
//   the sender waits until the lane's credit says that n - stages + 1 tiles are read, and stores the tile;
//   the receiver waits for the tile, copies it out, and when a credit is due says that n + 1 tiles are read.
// Both ends agree on the lanes and tiles of a message because they agree on its length; if they do not, lane 0 finds it out.
//
// Two wires. Escaped: a slot is all ones whenever it is empty. A thread stores four packs at most and the word that belongs to them,
// which holds their escapes and some bits of the message's length; a thread of the receiver polls all of these at once and empties
// them. Nobody fences on the sender's side. Of a message of more tiles than lanes the words of a tile's first warp travel, for the length, and of
// the others those without which packs cannot be read. Flagged: plain packs, a barrier, and a released flag (n + 1, what the length hashes
// to) in place of the first word: for memory that it costs much to poll, and for host threads, which read plain memory faster.
//
// Credits cost the receiver a fence, so it gives in a call only those that the call itself needs, and one more, so that a sender finds
// a free slot after it: with T tiles of a lane in the call, for the first T - stages + 1. The others are given when the lane's next
// call begins. A sender may wait for that, but never for a receive that is not due before its own message's. Then no fence is
// needed, because the kernel that emptied the slots has ended.
namespace collectives::kernels {

enum class MailOutlook : std::uint32_t { open, peer_has_left, failed };

/// The slow part of waiting: is there any reason to stop? `since` is when this thread first asked.
COLLECTIVES_COLD MailOutlook look_at_mail(Place<MailHead> place, int peer, std::uint64_t since, MailOutlook before) {
  const MailHead& call = *place.call;
  const auto fail = [&](FaultKind kind, Mark about) {
    record_failure(place, kind, about);
    return MailOutlook::failed;
  };
  if (observe_relaxed(&call.fault->abort) != 0) return fail(FaultKind::aborted, call.rank);
  const Mark word = observe_relaxed(&place.control(call.rank).poison);
  if (word != 0) return fail(FaultKind::poisoned, word);
  // Another thread of this rank has failed and said so.
  if (observe_relaxed(&place.control(call.rank).claimed) != 0) return MailOutlook::failed;
  // Who has left had sent and read all it meant to: between two looks at this, all of that was looked for again.
  if (before == MailOutlook::peer_has_left) return fail(FaultKind::left, static_cast<Mark>(peer));
  if (now_ns() - since > call.timeout_ns) return fail(FaultKind::timeout, Mark{1} << peer);
  return (observe_relaxed(&call.fault->left) >> peer & 1u) != 0 ? MailOutlook::peer_has_left : MailOutlook::open;
}

/// What is known of a queue's messages when the code is made. Small messages wait for their instructions, and large ones want few.
struct AnyMail {
  static constexpr bool plain = false;   ///< whole packs, in the callers' memory as well
  static constexpr bool single = false;  ///< one message, with a tile a lane at most
};
struct PlainMail {
  static constexpr bool plain = true, single = false;
};
struct SingleMail {
  static constexpr bool plain = true, single = true;
};

/// `messages` are the queue's.
inline bool is_plain(const MailQueue& queue, const MessageArgs* messages) {
  for (int m = 0; m < queue.count; ++m) {
    const auto address = reinterpret_cast<std::uintptr_t>(messages[m].data);
    if (address % sizeof(Pack) != 0 || messages[m].bytes % sizeof(Pack) != 0) return false;
  }
  return true;
}
inline bool is_single(const MailHead& head, const MailQueue& queue, const MessageArgs* messages) {
  return is_plain(queue, messages) && queue.count == 1 && messages[0].tiles <= head.lanes;
}

/// One lane of a queue, from its first message to its last. `Form` is one of those above.
template <typename Form, typename Wire, typename Group, typename Relief>
class MailLane {
 public:
  /// `messages` are the queue's.
  COLLECTIVES_HOST_DEVICE MailLane(const MailHead& head, const MailQueue& queue, const MessageArgs* messages, int lane, Group group, Relief relief)
      : head_(head), queue_(queue), messages_(messages), lane_(static_cast<std::uint32_t>(lane)), group_(group), relief_(relief) {
    tile_ = lane_;
    if constexpr (!Form::single) open_message();
    // None of a sender's three waits for another: what it sends, its next tile's number, and how many were read.
    if (queue_.sends) fetch_next();
    next_ = observe_relaxed(counter());
    if (queue_.sends) {
      credit_ = static_cast<std::uint32_t>(observe(credit()) >> 32);
      return;
    }
    if constexpr (!Form::single)
      for (int m = 0; m < queue_.count; ++m) left_ += tiles_here(messages_[m]);
    if (group_.thread() != 0) return;
    queue_.unfenced ? signal_relaxed(credit(), mark(next_, 0)) : signal(credit(), mark(next_, 0));
  }

  COLLECTIVES_HOST_DEVICE bool done() const { return message_ == queue_.count; }
  COLLECTIVES_HOST_DEVICE bool failed() const { return failed_; }

  /// Has the next tile begun to come, or may it be sent? For who would rather do something else than wait.
  COLLECTIVES_HOST_DEVICE bool ready() {
    if (failed_) return false;
    if (queue_.sends) return may_send();
    if constexpr (Wire::flagged) return flag_has_come();
    else return Wire::arrived(observe_relaxed(words()));
  }

  /// To be asked after each try in vain. False: give up, something has failed.
  COLLECTIVES_HOST_DEVICE bool keep_waiting() {
    if (failed_) return false;
    if (++tries_ % look_up_every != 0) return true;
    relief_();
    if (since_ == 0) since_ = now_ns();
    outlook_ = look_at_mail(place(), queue_.peer, since_, outlook_);
    failed_ = outlook_ == MailOutlook::failed;
    return !failed_;
  }

  /// The tile whose turn it is, waiting for what it waits for. Nothing more once this thread has failed.
  COLLECTIVES_HOST_DEVICE void move() {
    const Piece piece = next_piece();
    if constexpr (Wire::flagged) wait_together();
    if (!failed_) queue_.sends ? send(piece) : receive(piece);
    if (!Form::single && !queue_.sends) give_credit();
    ++next_;
    since_ = 0;
    outlook_ = MailOutlook::open;
    if constexpr (Form::single) {
      ++message_;
      return;
    }
    tile_ += head_.lanes;
    if (tile_ >= message().tiles) {
      ++message_;
      open_message();
    }
    if (queue_.sends) fetch_next();
  }

  /// What a receiver's courier does in place of moving tiles: credit for those that all others have emptied.
  COLLECTIVES_HOST_DEVICE void carry_credits() {
    for (std::uint32_t emptied = 0; left_ >= head_.stages;) {
      const std::uint32_t now = group_.await(emptied + 1, [&] { return keep_waiting(); });
      if (failed_ = group_.any_of_warp(failed_); failed_) return;
      next_ += now - emptied;
      left_ -= now - emptied;
      emptied = now;
      if (group_.is_first_courier()) signal(credit(), mark(next_, 0));
    }
  }

  /// Once it is done or has failed: all threads together. False if any of them has failed.
  COLLECTIVES_HOST_DEVICE bool finish() {
    failed_ = group_.any(failed_);
    if (!failed_ && group_.thread() == 0) signal_relaxed(counter(), next_);
    return !failed_;
  }

 private:
  static constexpr int unroll = packs_a_word;
  static constexpr std::uint32_t length_bits = 15;
#if defined(__CUDACC__)
  static constexpr std::uint32_t look_up_every = 4096;
#else
  static constexpr std::uint32_t look_up_every = 64;
#endif

  /// A tile's packs, in its message.
  struct Piece {
    std::uint64_t first;
    std::uint32_t packs;
  };

  COLLECTIVES_HOST_DEVICE const MessageArgs& message() const { return messages_[Form::single ? 0 : message_]; }
  COLLECTIVES_HOST_DEVICE Piece next_piece() const {
    const std::uint32_t tile_packs = message().tile_packs;
    const std::uint64_t first = std::uint64_t{tile_} * tile_packs, left = (message().bytes + sizeof(Pack) - 1) / sizeof(Pack) - first;
    return {first, static_cast<std::uint32_t>(left < tile_packs ? left : tile_packs)};
  }
  COLLECTIVES_HOST_DEVICE std::uint32_t tiles_here(const MessageArgs& message) const {
    if (message.tiles <= head_.lanes) return lane_ < message.tiles ? 1 : 0;
    return (message.tiles - lane_ - 1) / head_.lanes + 1;
  }

  /// Of the message's length, beside the escapes in word w of a tile: four words in turn say all of it. A message so short that it has
  /// no four packs is told from others by bits of all of their length.
  COLLECTIVES_HOST_DEVICE std::uint32_t length_in(std::uint32_t w) const {
    const std::uint64_t bytes = message().bytes;
    const std::uint64_t part = w % 4 == 0 ? bytes ^ bytes >> length_bits ^ bytes >> 2 * length_bits ^ bytes >> 3 * length_bits : bytes >> w % 4 * length_bits;
    return static_cast<std::uint32_t>(part) & ((1u << length_bits) - 1);
  }
  /// The same for a flag; never all ones, as slots are before the first message.
  COLLECTIVES_HOST_DEVICE std::uint32_t length_hash() const {
    const std::uint64_t bytes = message().bytes;
    return static_cast<std::uint32_t>(bytes ^ (bytes >> 31) * 0x9e3779b9u) & 0x7fffffffu;
  }

  /// The next message that has a tile for this lane.
  COLLECTIVES_HOST_DEVICE void open_message() {
    tile_ = lane_;
    while (!done() && tile_ >= message().tiles) ++message_;
    if (Form::plain || done()) return;
    const auto address = reinterpret_cast<std::uintptr_t>(message().data);
    aligned_ = address % sizeof(Pack) == 0;
  }

  COLLECTIVES_HOST_DEVICE bool may_send() {
    if (has_credit()) return true;
    credit_ = static_cast<std::uint32_t>(observe(credit()) >> 32);
    return has_credit();
  }
  COLLECTIVES_HOST_DEVICE bool has_credit() const { return static_cast<std::int32_t>(credit_ + head_.stages - next_) > 0; }

  COLLECTIVES_HOST_DEVICE bool flag_has_come() {
    const Mark seen = observe(flag());
    if (static_cast<std::uint32_t>(seen >> 32) != next_ + 1) return false;
    if (static_cast<std::uint32_t>(seen) == length_hash()) return true;
    differs();
    return false;
  }

  /// One thread waits and all know.
  COLLECTIVES_HOST_DEVICE void wait_together() {
    if (group_.thread() == 0)
      while (!ready() && keep_waiting()) {
      }
    failed_ = group_.any(failed_);
  }

  /// When it is due. All threads must have emptied their part of the slot; who failed comes here as well.
  COLLECTIVES_HOST_DEVICE void give_credit() {
    if constexpr (Group::has_courier) failed_ = group_.any_of_warp(failed_);  // no thread leaves those that will report with it
    if (left_-- < head_.stages) return;
    if constexpr (Group::has_courier) {
      if (!failed_) group_.report(++emptied_);
    } else {
      failed_ = group_.any(failed_);
      if (!failed_ && group_.thread() == 0) signal(credit(), mark(next_ + 1, 0));
    }
  }

  /// Word w of a tile belongs to packs w, w + words, w + 2 words and so on, with as many words as make that four packs at most.
  COLLECTIVES_HOST_DEVICE std::uint32_t words_of_tile() const { return message().tile_packs / unroll; }

  /// Asks for the first of this thread's words' packs of the next tile, long before they are sent: nothing else hides the latency of memory.
  /// A flag is waited for by one thread, before the others do anything.
  COLLECTIVES_HOST_DEVICE void fetch_next() {
    if constexpr (!Wire::flagged)
      if (Form::single || !done()) fetch(next_piece(), group_.thread());
  }
  COLLECTIVES_HOST_DEVICE void fetch(Piece piece, std::uint32_t w) {
    const std::uint32_t words = words_of_tile();
    if (w >= words) return;
    COLLECTIVES_UNROLL
    for (int u = 0; u < unroll; ++u)
      if (w + u * words < piece.packs) fetched_[u] = load(piece.first + w + u * words);
  }

  COLLECTIVES_HOST_DEVICE void send(Piece piece) {
    Pack* const to = slot();
    const std::uint32_t words = words_of_tile(), packs = piece.packs;
    for (std::uint32_t w = group_.thread(); w < words && w < packs; w += group_.threads()) {
      if (Wire::flagged || w != group_.thread()) fetch(piece, w);
      std::uint32_t word = length_in(w) << 4 * unroll;
      [[maybe_unused]] bool told = tells(w);
      if constexpr (!Wire::flagged) {
        while (!may_send())
          if (!keep_waiting()) return;
        COLLECTIVES_UNROLL
        for (int u = 0; u < unroll; ++u)
          if (w + u * words < packs) {
            word |= Wire::escape(fetched_[u]) << 4 * u;
            told = told || Wire::is_marked(fetched_[u]);
          }
      }
      COLLECTIVES_UNROLL
      for (int u = 0; u < unroll; ++u)
        if (w + u * words < packs) Wire::store(to + w + u * words, fetched_[u]);
      if constexpr (!Wire::flagged)
        if (told) signal_relaxed(this->words() + w, word);
    }
    if constexpr (Wire::flagged) {
      group_.sync();
      if (group_.thread() == 0) signal(flag(), mark(next_ + 1, length_hash()));
    }
  }

  COLLECTIVES_HOST_DEVICE void receive(Piece piece) {
    Pack* const from = slot();
    const std::uint64_t first = piece.first;
    const std::uint32_t words = words_of_tile(), packs = piece.packs;
    for (std::uint32_t w = group_.thread(); w < words && w < packs; w += group_.threads()) {
      Pack pack[unroll]{};
      [[maybe_unused]] bool told = false;
      if constexpr (Wire::flagged) {
        COLLECTIVES_UNROLL
        for (int u = 0; u < unroll; ++u)
          if (w + u * words < packs) pack[u] = Wire::load(from + w + u * words);
      } else {
        std::uint32_t word = Wire::empty;
        if (!poll(pack, word, w, packs)) return;
        told = Form::single || Wire::arrived(word);
        const std::uint32_t escaped = told ? word : 0;
        COLLECTIVES_UNROLL
        for (int u = 0; u < unroll; ++u)
          if (w + u * words < packs) Wire::restore(pack[u], escaped >> 4 * u);
      }
      COLLECTIVES_UNROLL
      for (int u = 0; u < unroll; ++u)
        if (w + u * words < packs) store(first + w + u * words, pack[u]);
      if constexpr (!Wire::flagged) {
        COLLECTIVES_UNROLL
        for (int u = 0; u < unroll; ++u)
          if (w + u * words < packs) Wire::clear(from + w + u * words);
        if (told) signal_relaxed(this->words() + w, Wire::empty);
      }
    }
  }

  /// All at once, then those again that have not come, until all have; the word too if it is due, or else empty. False: give up.
  COLLECTIVES_HOST_DEVICE bool poll(Pack (&pack)[unroll], std::uint32_t& word, std::uint32_t w, std::uint32_t packs) {
    const Pack* const from = slot();
    const std::uint32_t words = words_of_tile(), length = length_in(w);
    bool due = tells(w);
    COLLECTIVES_UNROLL
    for (int u = 0; u < unroll; ++u)
      if (w + u * words < packs) pack[u] = Wire::load(from + w + u * words);
    if (due) word = observe_relaxed(this->words() + w);
    for (;;) {
      bool all = true;
      COLLECTIVES_UNROLL
      for (int u = 0; u < unroll; ++u)
        if (w + u * words < packs && !Wire::arrived(pack[u])) {
          pack[u] = Wire::load(from + w + u * words);
          all = false;
        }
      if (due && !Wire::arrived(word)) {
        word = observe_relaxed(this->words() + w);
        all = false;
      } else if (due && word >> 4 * unroll != length) {
        differs();
        return false;
      }
      if (all && due) return true;
      if (all) {
        COLLECTIVES_UNROLL
        for (int u = 0; u < unroll; ++u)
          if (w + u * words < packs) due = due || Wire::is_marked(pack[u]);
        if (!due) return true;
      }
      if (!keep_waiting()) return false;
    }
  }

  /// Does word w of a tile travel whatever the packs are? Enough of them that the ends find out if they disagree about the length.
  COLLECTIVES_HOST_DEVICE bool tells(std::uint32_t w) const { return Form::single || w < 32 || message().tiles <= head_.lanes; }

  COLLECTIVES_HOST_DEVICE Pack load(std::uint64_t p) const {
    const void* in = message().data;
    const std::uint64_t bytes = message().bytes;
    if (Form::plain || (aligned_ && (p + 1) * sizeof(Pack) <= bytes)) return static_cast<const Pack*>(in)[p];
    return load_bytes(in, bytes, p);
  }
  COLLECTIVES_HOST_DEVICE void store(std::uint64_t p, const Pack& pack) const {
    void* out = message().data;
    const std::uint64_t bytes = message().bytes;
    if (Form::plain || (aligned_ && (p + 1) * sizeof(Pack) <= bytes)) {
      static_cast<Pack*>(out)[p] = pack;
    } else {
      store_bytes(out, bytes, p, pack);
    }
  }

  COLLECTIVES_HOST_DEVICE Pack* slot() const {
    const std::size_t stage = next_ & (head_.stages - 1u);
    return queue_.slots + (static_cast<std::size_t>(lane_) * head_.stages + stage) * head_.slot_stride();
  }
  /// In the same place for messages of any length, so that ends that disagree find it out.
  COLLECTIVES_HOST_DEVICE std::uint32_t* words() const { return reinterpret_cast<std::uint32_t*>(slot() + head_.slot_packs); }
  COLLECTIVES_HOST_DEVICE Mark* flag() const { return reinterpret_cast<Mark*>(slot() + head_.slot_packs); }
  COLLECTIVES_HOST_DEVICE Mark* credit() const { return queue_.credits + lane_; }
  COLLECTIVES_HOST_DEVICE std::uint32_t* counter() const { return queue_.counters + lane_; }

  COLLECTIVES_HOST_DEVICE Place<MailHead> place() const { return {&head_, head_.common, Turn{observe_relaxed(&head_.control->next)}.epoch()}; }
  /// The peer's message is of another length.
  COLLECTIVES_HOST_DEVICE void differs() {
    failed_ = true;
    record_failure(place(), FaultKind::mismatch, queue_.peer);
  }

  const MailHead& head_;
  const MailQueue& queue_;
  const MessageArgs* messages_;
  std::uint32_t lane_;
  Group group_;
  Relief relief_;
  std::uint32_t next_ = 0;    ///< the lane's next tile
  std::uint32_t credit_ = 0;  ///< of a sender: tiles that were read when it last looked
  std::uint32_t left_ = 0;    ///< of a receiver: tiles of this call that are still to come
  std::uint32_t emptied_ = 0; ///< of a receiver that has a courier: tiles that it has reported
  int message_ = 0;
  std::uint32_t tile_ = 0;  ///< of the message
  bool aligned_ = false;
  Pack fetched_[unroll]{};  ///< of a sender
  std::uint32_t tries_ = 0;
  std::uint64_t since_ = 0;
  MailOutlook outlook_ = MailOutlook::open;
  bool failed_ = false;
};

}  // namespace collectives::kernels
