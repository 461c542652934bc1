#pragma once

#include <cstddef>
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

}  // namespace collectives
