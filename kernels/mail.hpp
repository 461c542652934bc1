#pragma once

#include <collectives/types.hpp>
#include <cstddef>
#include <cstdint>

#include "kernels/control.hpp"

// Messages between two ranks that nobody else takes part in: sends and receives of any pattern, on which no epoch depends.
namespace collectives::kernels {

inline constexpr int max_mail_queues = 2 * (max_ranks - 1);
inline constexpr int max_messages = 96;  ///< of one call

/// A message as one of its two ranks sees it.
struct MessageArgs {
  const void* in;  ///< of a send
  void* out;       ///< of a receive
  std::uint64_t bytes;
};

/// The messages of one call from this rank to a peer, or from a peer to it, in their order.
struct MailQueue {
  std::uint8_t peer;
  bool sends;
  bool common;  ///< the two meet in common memory
  std::uint8_t first, count;  ///< of the call's messages
  std::uint16_t first_block;  ///< a block for each lane that any of them uses
};

/// One call of one rank: passed to its kernel by value, so that a captured graph keeps it.
struct MailArgs {
  std::byte* pools[max_ranks];   ///< as this rank addresses them; null for those it does not reach
  std::byte* common[max_ranks];  ///< the same in memory that all reach
  std::uint8_t rank, ranks;
  std::uint8_t lanes;        ///< of a pair, at most: the same on both sides
  std::uint32_t slot_packs;  ///< the same
  std::uint64_t timeout_ns;
  FaultRecord* fault;
  Layout layout;
  std::uint8_t queues;
  std::uint16_t blocks;
  MailQueue queue[max_mail_queues];
  MessageArgs message[max_messages];
};

/// Enqueues one call of `args.blocks` blocks, which must all be resident at once.
void launch_mail(const MailArgs& args, Stream stream);

/// Loads the kernel on the current device.
void preload_mail();

}  // namespace collectives::kernels
