#pragma once

#include <array>
#include <collectives/communicator.hpp>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/mail.hpp"

namespace collectives {

struct RankContext;

/// The ranks to which and from which messages go through common memory, a bit each, and that memory. At first as calls do; links that are
/// taken out change either at a point of its own.
struct MailWays {
  std::uint32_t sends = 0, receives = 0;
  std::array<std::byte*, max_ranks> common{};

  bool through_common(int peer, bool sent) const { return ((sent ? sends : receives) >> peer & 1u) != 0; }
};

/// What a rank sends to a peer or receives from it: one of the two addresses is null. At least a byte.
struct Message {
  int peer = 0;
  const void* in = nullptr;
  void* out = nullptr;
  std::size_t bytes = 0;
};

/// What a rank sends to itself.
struct OwnMessage {
  const void* in = nullptr;
  void* out = nullptr;
  std::size_t bytes = 0;
};

/// One call's sends and receives, those with one peer in their order.
struct Mail {
  std::vector<Message> messages;
  std::vector<OwnMessage> own;
};

/// Throws Error(invalid_argument) for more messages than a call takes.
kernels::MailArgs mail_args(const RankContext& context, const Mail& mail, kernels::FaultRecord* fault);

/// Where this rank counts the tiles that it has sent to a peer, by lane, and the credits that it needs to send more in other memory. The slots
/// there are all empty, so that these begin as the same numbers.
struct NewWay {
  std::uint32_t* sent;
  Mark* credits;
};
NewWay new_way_to(const RankContext& context, int peer);

}  // namespace collectives
