#pragma once

#include <collectives/communicator.hpp>
#include <cstddef>
#include <cstdint>

#include "base/atomics.hpp"

// What a rank's pool holds, and the record in which a kernel says what went wrong.
namespace collectives::kernels {

inline constexpr int max_blocks = 144;  ///< no GPU so far gains from more
inline constexpr int max_lanes = 32;    ///< transfers into or out of one rank in a schedule

/// The front of a pool. Peers write headers, poison and nothing else here.
struct Control {
  Mark headers[2][max_ranks];  ///< [epoch & 1][rank]: (epoch, fingerprint of the call), written by that rank
  Mark poison;                 ///< nonzero: a peer's call has failed; see `Poison`
  Epoch epoch;                 ///< of the next call
  std::uint32_t arrived;       ///< blocks of the running call that have read the epoch
  std::uint32_t claimed;       ///< the fault record has an author
};

/// Where things are in every pool of a communicator, in bytes from its base. The same on all ranks.
struct Layout {
  static constexpr std::size_t control = 0;
  static constexpr std::size_t flags = 4096;  ///< Mark[max_lanes][max_blocks], written by senders
  static constexpr std::size_t credits = flags + sizeof(Mark) * max_lanes * max_blocks;  ///< the same, written by receivers
  static constexpr std::size_t slots = credits + sizeof(Mark) * max_lanes * max_blocks;
  static_assert(sizeof(Control) <= flags && slots % 256 == 0);

  std::size_t half_bytes = 0;  ///< of one half of one wire's slots

  /// The two halves for sentinels, which are all ones whenever no pack is under way, then the two for flagged packs. The
  /// wires share no memory: what one leaves behind would look like an arrival to the other.
  COLLECTIVES_HOST_DEVICE std::size_t half(bool flagged, Epoch epoch) const {
    return slots + ((flagged ? 2u : 0u) + (epoch & 1u)) * half_bytes;
  }
  constexpr std::size_t bytes() const { return slots + 4 * half_bytes; }
};

/// What flags, credits and headers hold before the first call: nothing that this call or the next could take for its own.
constexpr Mark flag_before(Epoch first) { return mark(first, 0); }
constexpr Mark header_before(Epoch first) { return mark(first - 1, 0); }

enum class FaultKind : std::uint32_t {
  none,
  timeout,   ///< the deadline passed; `missing` says whose header had not come
  mismatch,  ///< `peer` made another call
  aborted,   ///< the host said so
  poisoned   ///< `peer` found `origin` wrong with rank `culprit`
};

/// In memory that the host and the device both reach. The host writes `abort`, the device the rest, `kind` last.
struct FaultRecord {
  std::uint32_t abort;
  std::uint32_t kind;
  std::uint32_t peer;
  std::uint32_t culprit;
  std::uint32_t origin;
  std::uint32_t epoch;
  std::uint32_t missing;  ///< a bit a rank
};

/// A poison word: who says so, what, about whom.
COLLECTIVES_HOST_DEVICE constexpr Mark poison(FaultKind kind, std::uint32_t reporter, std::uint32_t culprit) {
  return Mark{1} << 63 | static_cast<Mark>(kind) << 32 | reporter << 8 | culprit;
}

}  // namespace collectives::kernels
