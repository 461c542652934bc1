#pragma once

#include <collectives/communicator.hpp>
#include <cstddef>
#include <cstdint>

#include "base/atomics.hpp"
#include "base/program_room.hpp"

// What a rank's pool holds, and the record in which a kernel says what went wrong.
namespace collectives::kernels {

inline constexpr int max_blocks = 144;  ///< no GPU so far gains from more

/// A rank's own count of its calls: the epoch of the next one in the upper half. Below it lies, while a call runs, how many of its blocks have read the word: each
/// adds its share once it has, and all shares together are one epoch. So the epoch moves on when the last block has read it, and no block waits to
/// be told that it was the last. The two lowest bits say, by the epoch modulo 2, whether
/// the call before was wide.
struct Turn {
  Mark word;

  COLLECTIVES_HOST_DEVICE constexpr Epoch epoch() const { return static_cast<Epoch>(word >> 32); }
  COLLECTIVES_HOST_DEVICE constexpr bool follows_wide() const { return (word >> (epoch() & 1u) & 1u) != 0; }
  /// What one of a call's blocks adds, `share` each but the first, which also says whether this call is wide. `word` may be as any of them read it.
  COLLECTIVES_HOST_DEVICE constexpr Mark step(bool first, std::uint32_t share, std::uint32_t blocks, bool wide) const {
    if (!first) return share;
    const unsigned bit = (epoch() + 1) & 1u;
    return (Mark{1} << 32) - static_cast<Mark>(share) * (blocks - 1) + (static_cast<Mark>(wide) << bit) - (word & Mark{1} << bit);
  }
};
/// Of an epoch, for each of a call's blocks but the first: worked out by the host, as dividing took a small call 0.2 us.
constexpr std::uint32_t share_of_epoch(int blocks) { return blocks == 1 ? 0 : (1u << 30) / static_cast<std::uint32_t>(blocks) * 4; }
static_assert(mark(7, 1) + Turn{mark(7, 1)}.step(true, share_of_epoch(1), 1, false) == mark(8, 0));
static_assert(mark(7, 2) + Turn{mark(7, 2)}.step(true, share_of_epoch(3), 3, true) + 2 * Turn{mark(7, 2)}.step(false, share_of_epoch(3), 3, true) == mark(8, 3));
static_assert(Turn{mark(8, 1)}.follows_wide() && !Turn{mark(8, 2)}.follows_wide() && Turn{mark(9, 2)}.follows_wide());

/// The front of a pool. Peers write headers, poison and nothing else here.
struct Control {
  Mark headers[2][max_ranks];  ///< [epoch & 1][rank]: (epoch, fingerprint of the call), written by that rank
  Mark poison;                 ///< nonzero: a peer's call has failed
  Mark next;                   ///< a Turn
  std::uint32_t claimed;       ///< the fault record has an author
};

inline constexpr int max_mail_lanes = 64;  ///< of each direction of a pair

/// What sends and receives count by (kernels/mail_body.hpp). The other end's rank comes first in each index.
struct MailBoard {
  Mark credits[max_ranks][max_mail_lanes];  ///< (tiles that were read, 0), written by that rank
  std::uint32_t sent[max_ranks][max_mail_lanes];
  std::uint32_t received[max_ranks][max_mail_lanes];
};

/// What calls that copy engines carry count by (src/exec/copies.hpp).
struct alignas(256) CopyBoard {
  Mark arrived[max_ranks];  ///< (epoch, groups of copies that are whole), written by the rank that copied
};

/// Where things are in every pool of a communicator, in bytes from its base. The same on all ranks.
struct Layout {
  static constexpr std::size_t control = 0;
  static constexpr std::size_t flags = 4096;  ///< Mark[epoch & 1][max_lanes][max_blocks], written by senders
  static constexpr std::size_t credits = flags + 2 * sizeof(Mark) * max_lanes * max_blocks;  ///< the same, written by receivers
  static constexpr std::size_t progress = credits + 2 * sizeof(Mark) * max_lanes * max_blocks;  ///< Mark[max_crews][max_blocks], of the rank itself
  static constexpr std::size_t mail_board = progress + sizeof(Mark) * max_crews * max_blocks;
  static constexpr std::size_t copy_board = mail_board + sizeof(MailBoard);
  static constexpr std::size_t slots = copy_board + sizeof(CopyBoard);
  static_assert(sizeof(Control) <= flags && copy_board % alignof(CopyBoard) == 0 && slots % 256 == 0);

  std::size_t sentinel_bytes = 0;  ///< of one half of the slots for sentinels
  std::size_t flagged_bytes = 0;   ///< of one half of the slots for flagged packs
  std::size_t mail_bytes = 0;      ///< of all slots for sends and receives
  std::size_t copy_bytes = 0;      ///< of all slots for copy engines; none unless they are asked for

  /// A lane's flag or credit for one block. Halves alternate as those of the slots do: in the next call, which may be another
  /// program, the word of this lane may have another writer, and he may be there before this call's.
  static COLLECTIVES_HOST_DEVICE constexpr std::size_t mark_index(Epoch epoch, int lane, int block) {
    return (static_cast<std::size_t>(epoch & 1u) * max_lanes + static_cast<std::size_t>(lane)) * max_blocks + static_cast<std::size_t>(block);
  }

  /// The two halves for sentinels, which are all ones whenever no pack is under way, then the two for flagged packs. The
  /// wires share no memory: what one leaves behind would look like an arrival to the other.
  /// A wide call takes both halves of the sentinels at once, beginning at the first.
  COLLECTIVES_HOST_DEVICE std::size_t half(bool flagged, Epoch epoch) const {
    return slots + (flagged ? 2 * sentinel_bytes + (epoch & 1u) * flagged_bytes : (epoch & 1u) * sentinel_bytes);
  }
  /// The slots for sends and receives: [sender, counted from this rank on][lane][stage]. All ones before the first of them.
  COLLECTIVES_HOST_DEVICE constexpr std::size_t mail() const { return slots + 2 * (sentinel_bytes + flagged_bytes); }
  /// The slots for copy engines: [group modulo copy_buffers][lane of the sender].
  constexpr std::size_t copies() const { return mail() + mail_bytes; }
  constexpr std::size_t bytes() const { return copies() + copy_bytes; }
};

/// What flags, credits and headers hold before the first call: nothing that this call or the next could take for its own.
constexpr Mark flag_before(Epoch first) { return mark(first, 0); }
constexpr Mark header_before(Epoch first) { return mark(first - 1, 0); }

enum class FaultKind : std::uint32_t {
  none,
  timeout,   ///< the deadline passed; `missing` says whose header had not come
  mismatch,  ///< `peer` made another call
  aborted,   ///< the host said so
  poisoned,  ///< `peer` found `origin` wrong with rank `culprit`
  left       ///< `peer` has left the communicator and never made this call
};

/// In memory that the host and the device both reach. The host writes `abort` and `left`, the device the rest, `kind` last.
struct FaultRecord {
  std::uint32_t abort;
  std::uint32_t kind;
  std::uint32_t peer;
  std::uint32_t culprit;
  std::uint32_t origin;
  std::uint32_t epoch;
  std::uint32_t missing;  ///< a bit a rank
  std::uint32_t left;     ///< written by the host: ranks that have left after their last call, a bit each
};

/// A poison word: who says so, what, about whom, in which call. The reader may still be in an earlier one.
COLLECTIVES_HOST_DEVICE constexpr Mark poison(FaultKind kind, std::uint32_t reporter, std::uint32_t culprit, Epoch epoch = 0) {
  return Mark{1} << 63 | static_cast<Mark>(epoch & 0xffffu) << 40 | static_cast<Mark>(kind) << 32 | reporter << 8 | culprit;
}

/// The call that a poison word is about, for a reader that is in call `own`: no rank is far from another.
COLLECTIVES_HOST_DEVICE constexpr Epoch epoch_of_poison(Mark word, Epoch own) {
  const auto ahead = static_cast<std::int16_t>(static_cast<std::uint16_t>((word >> 40 & 0xffffu) - own));
  return own + static_cast<Epoch>(static_cast<std::int32_t>(ahead));
}
static_assert(epoch_of_poison(poison(FaultKind::mismatch, 3, 2, 5), 4) == 5 && epoch_of_poison(poison(FaultKind::mismatch, 3, 2, 0xffffffffu), 0) == 0xffffffffu);

}  // namespace collectives::kernels
