#pragma once

#include <collectives/types.hpp>
#include <cstddef>
#include <cstdint>

#include "kernels/control.hpp"

// Messages between two ranks that nobody else takes part in: sends and receives of any pattern, on which no epoch depends.
namespace collectives::kernels {

inline constexpr int max_mail_queues = 2 * (max_ranks - 1);
inline constexpr int max_messages = 96;       ///< of one call
inline constexpr int max_mail_threads = 512;  ///< of a block
inline constexpr int packs_a_word = 4;        ///< of a slot, which belong to one thread at a time

/// A message as one of its two ranks sees it.
struct MessageArgs {
  void* data;  ///< that a send only reads
  std::uint64_t bytes;
  std::uint32_t tile_packs;  ///< how it is cut: the same on both sides; a multiple of `packs_a_word`
  std::uint32_t tiles;       ///< number t is for lane t modulo `lanes`
};

/// The messages of one call from this rank to a peer, or from a peer to it, in their order. The addresses are those of lane 0.
struct MailQueue {
  Pack* slots;              ///< in the receiver's pool
  Mark* credits;            ///< in the sender's pool
  std::uint32_t* counters;  ///< in this rank's own: the number of the lane's next tile
  std::uint8_t peer;
  bool sends;
  bool escaped;   ///< over the escaped wire, else the flagged one: the same on both sides
  bool unfenced;  ///< the slots are in device memory: what an earlier kernel did there is done
  std::uint8_t first, count;  ///< of the call's messages
  std::uint8_t lanes;         ///< that any of them uses
  std::uint8_t blocks;        ///< for all those lanes
  std::uint16_t first_block;
};

/// What all messages of one rank's call have in common.
struct MailHead {
  std::uint8_t rank, ranks;
  std::uint8_t queues;
  std::uint8_t lanes, stages;  ///< of a direction of a pair, at most; slots of a lane, a power of two; the same on both sides
  std::uint16_t threads;       ///< of a block
  std::uint16_t blocks;
  std::uint32_t slot_packs;  ///< the same on both sides; a multiple of `packs_a_word`
  std::uint64_t timeout_ns;
  FaultRecord* fault;
  const Control* control;        ///< this rank's, for the number of the call
  std::byte* common[max_ranks];  ///< pools in memory that all reach

  /// In packs: a slot's packs, then a word for each thread's.
  COLLECTIVES_HOST_DEVICE constexpr std::size_t slot_stride() const {
    constexpr std::uint32_t words = sizeof(Pack) / sizeof(std::uint32_t);  // in a pack
    return slot_packs + (slot_packs / packs_a_word + words - 1) / words;
  }
};

/// One call of one rank: passed to its kernel by value, so that a captured graph keeps it.
template <int most_queues, int most_messages>
struct MailCall : MailHead {
  MailQueue queue[most_queues];
  MessageArgs message[most_messages];
};
using MailArgs = MailCall<max_mail_queues, max_messages>;
static_assert(sizeof(MailArgs) <= 4096, "what a kernel of any CUDA takes");

/// Enqueues one call of `args.blocks` blocks, which must all be resident at once.
void launch_mail(const MailArgs& args, Stream stream);

/// Loads the kernels on the current device.
void preload_mail();

}  // namespace collectives::kernels
