#include "exec/mail.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/require.hpp"
#include "exec/executor.hpp"
#include "kernels/mail_body.hpp"

namespace collectives {

kernels::MailArgs mail_args(const RankContext& context, const Mail& mail, kernels::FaultRecord* fault) {
  require(mail.messages.size() <= kernels::max_messages,
          [&] { return fmt::format("{} sends and receives in one call: expected {} at most", mail.messages.size(), kernels::max_messages); });
  kernels::MailArgs args{};
  std::copy(context.pools.begin(), context.pools.end(), args.pools);
  std::copy(context.common.begin(), context.common.end(), args.common);
  args.rank = static_cast<std::uint8_t>(context.rank);
  args.ranks = static_cast<std::uint8_t>(context.ranks);
  args.lanes = static_cast<std::uint8_t>(context.mail_lanes);
  args.slot_packs = static_cast<std::uint32_t>(context.layout.mail_bytes / sizeof(Pack) / static_cast<std::size_t>(context.ranks * context.mail_lanes * kernels::mail_stages));
  ensure(args.slot_packs > 0, "the slots for sends and receives hold a pack at least");
  args.timeout_ns = context.timeout_ns;
  args.fault = fault;
  args.layout = context.layout;
  std::size_t placed = 0, blocks = 0;
  // Receives first: they give the credits that a peer's sends wait for.
  for (const bool sends : {false, true})
    for (int peer = 0; peer < context.ranks; ++peer) {
      kernels::MailQueue queue{.peer = static_cast<std::uint8_t>(peer),
                               .sends = sends,
                               .common = (context.out_of_reach >> peer & 1u) != 0,
                               .first = static_cast<std::uint8_t>(placed),
                               .count = 0,
                               .first_block = static_cast<std::uint16_t>(blocks)};
      std::uint32_t lanes = 0;
      for (const Message& message : mail.messages) {
        if (message.peer != peer || (message.in != nullptr) != sends) continue;
        args.message[placed++] = {message.in, message.out, message.bytes};
        ++queue.count;
        lanes = std::max(lanes, kernels::cut_message(message.bytes, args.lanes, args.slot_packs).lanes);
      }
      if (queue.count == 0) continue;
      args.queue[args.queues++] = queue;
      blocks += lanes;
    }
  args.blocks = static_cast<std::uint16_t>(blocks);
  return args;
}

}  // namespace collectives
