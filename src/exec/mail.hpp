#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "kernels/mail.hpp"

namespace collectives {

struct RankContext;

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

/// For each of the ranks `moved` (a bit each), to which this one sends in other memory from now on: how many tiles it has sent it by
/// lane, and the credits that it needs there. The slots in that memory are all empty, so that these are the same numbers.
void each_new_way(const RankContext& context, std::uint32_t moved, const std::function<void(std::uint32_t* sent, Mark* credits)>& body);

}  // namespace collectives
