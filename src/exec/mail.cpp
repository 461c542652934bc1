#include "exec/mail.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/require.hpp"
#include "exec/executor.hpp"

namespace collectives {
namespace {

constexpr std::size_t warp_packs = 32 * kernels::packs_a_word;
constexpr std::size_t largest_slot_packs = kernels::max_mail_threads * kernels::packs_a_word;

std::size_t over(std::size_t count, std::size_t by) { return (count + by - 1) / by; }

/// How the slots that one rank has for another are divided.
struct MailSlots {
  std::size_t lanes, stages, packs;
};

/// A slot of so many packs has a word for every four of them. Whole warps if there is room for one.
std::size_t slot_packs_in(std::size_t bytes) {
  const std::size_t packs = bytes / sizeof(Pack) * 16 / 17;
  return std::min(packs >= warp_packs ? packs / warp_packs * warp_packs : packs / kernels::packs_a_word * kernels::packs_a_word, largest_slot_packs);
}

/// As many slots a lane as can be large, else two: a tile costs its receiver the latency of its memory, however small it is. On GPUs 4 KB
/// are large: of 3.5 MB a pair between four H200, two slots a lane take 1500 us for 256 MB, four 965 and eight 890; what fits two slots of one
/// tile takes longer for it, 8.8 us for 1 MB instead of 6.9. The same on both sides, which have the same layout.
MailSlots divide_mail(std::size_t bytes, std::size_t most_lanes, std::size_t most_stages, std::size_t large_packs) {
  constexpr std::size_t least_slot_bytes = warp_packs * 17;
  const std::size_t lanes = std::clamp<std::size_t>(bytes / (4 * least_slot_bytes), 1, most_lanes);
  std::size_t stages = most_stages;
  while (stages > 2 && slot_packs_in(bytes / lanes / stages) < large_packs) stages /= 2;
  return {lanes, stages, slot_packs_in(bytes / lanes / stages)};
}

/// A power of two. A host's slots are read before they leave its caches.
std::size_t most_stages(const RankContext& context) { return context.pools_in_device_memory ? 8 : 4; }
std::size_t large_packs(const RankContext& context) { return context.pools_in_device_memory ? 256 : 1024; }

/// In tiles of about equal size, as few as the lanes' slots allow, and no smaller than a warp can take. The same on both sides.
void cut(kernels::MessageArgs& message, const MailSlots& slots) {
  const std::size_t packs = over(message.bytes, sizeof(Pack)), share = over(packs, slots.lanes);
  const std::size_t tile = over(over(share, over(share, slots.packs)), warp_packs) * warp_packs;
  message.tile_packs = static_cast<std::uint32_t>(std::min(tile, slots.packs));
  const std::size_t tiles = over(packs, message.tile_packs);
  ensure(tiles <= INT32_MAX, "a message has fewer than 2^31 tiles");
  message.tiles = static_cast<std::uint32_t>(tiles);
}

/// A rank's call, put together queue by queue.
class Mailing {
 public:
  Mailing(const RankContext& context, kernels::FaultRecord* fault)
      : context_(context),
        slots_(divide_mail(context.layout.mail_bytes / static_cast<std::size_t>(std::max(context.ranks - 1, 1)), static_cast<std::size_t>(context.mail_lanes), most_stages(context), large_packs(context))) {
    ensure(slots_.packs > 0, "the slots for sends and receives hold a pack at least");
    args_.rank = static_cast<std::uint8_t>(context.rank);
    args_.ranks = static_cast<std::uint8_t>(context.ranks);
    args_.lanes = static_cast<std::uint8_t>(slots_.lanes);
    args_.stages = static_cast<std::uint8_t>(slots_.stages);
    args_.slot_packs = static_cast<std::uint32_t>(slots_.packs);
    args_.timeout_ns = context.timeout_ns;
    args_.fault = fault;
    args_.control = reinterpret_cast<const kernels::Control*>(pool(context.rank, false) + kernels::Layout::control);
    std::copy(context.common.begin(), context.common.end(), args_.common);
  }

  void add_queue(const Mail& mail, int peer, bool sends) {
    kernels::MailQueue queue = queue_with(peer, sends);
    queue.first = static_cast<std::uint8_t>(placed_);
    for (const Message& message : mail.messages) {
      if (message.peer != peer || (message.in != nullptr) != sends) continue;
      kernels::MessageArgs& placed = args_.message[placed_++];
      placed = {.data = sends ? const_cast<void*>(message.in) : message.out, .bytes = message.bytes, .tile_packs = 0, .tiles = 0};
      cut(placed, slots_);
      ++queue.count;
      queue.lanes = static_cast<std::uint8_t>(std::max<std::size_t>(queue.lanes, std::min<std::size_t>(placed.tiles, slots_.lanes)));
      widest_ = std::max(widest_, over(placed.tile_packs, kernels::packs_a_word));
    }
    if (queue.count > 0) args_.queue[args_.queues++] = queue;
  }

  /// Blocks for the queues, all of which run at once: the lanes of each in as few rounds as its share of the blocks allows.
  const kernels::MailArgs& finish() {
    const auto limit = static_cast<std::size_t>(context_.mail_blocks);
    const std::size_t share = std::max<std::size_t>(limit / std::max<std::size_t>(args_.queues, 1), 1);
    std::size_t blocks = 0;
    for (int q = 0; q < args_.queues; ++q) {
      kernels::MailQueue& queue = args_.queue[q];
      queue.first_block = static_cast<std::uint16_t>(blocks);
      queue.blocks = static_cast<std::uint8_t>(over(queue.lanes, over(queue.lanes, share)));
      blocks += queue.blocks;
    }
    args_.blocks = static_cast<std::uint16_t>(blocks);
    // More blocks than multiprocessors, because there are more queues: smaller ones, so that many fit on each.
    const std::size_t threads = std::min<std::size_t>(over(widest_, 32) * 32, blocks > limit ? 64 : kernels::max_mail_threads);
    args_.threads = static_cast<std::uint16_t>(threads);
    return args_;
  }

 private:
  std::byte* pool(int rank, bool common) const { return (common ? context_.mail_ways.common : context_.pools)[static_cast<std::size_t>(rank)]; }
  kernels::MailBoard& board(int rank, bool common) const { return *reinterpret_cast<kernels::MailBoard*>(pool(rank, common) + kernels::Layout::mail_board); }

  kernels::MailQueue queue_with(int peer, bool sends) const {
    const int own = context_.rank, sender = sends ? own : peer, receiver = sends ? peer : own;
    const bool common = context_.mail_ways.through_common(peer, sends), device = context_.pools_in_device_memory && !common;
    const auto from = static_cast<std::size_t>((sender - receiver + context_.ranks) % context_.ranks - 1);
    kernels::MailBoard& counts = board(own, false);
    return {.slots = reinterpret_cast<Pack*>(pool(receiver, common) + context_.layout.mail()) + from * slots_.lanes * slots_.stages * args_.slot_stride(),
            .credits = board(sender, common).credits[receiver],
            .counters = (sends ? counts.sent : counts.received)[peer],
            .peer = static_cast<std::uint8_t>(peer),
            .sends = sends,
            // Across PCIe one word is polled sooner than a whole tile, and a host thread copies plain memory faster.
            .escaped = context_.mail_wire ? *context_.mail_wire == Wire::sentinel : device,
            .unfenced = device,
            .first = 0,
            .count = 0,
            .lanes = 0,
            .blocks = 0,
            .first_block = 0};
  }

  const RankContext& context_;
  MailSlots slots_;
  kernels::MailArgs args_{};
  std::size_t placed_ = 0;
  std::size_t widest_ = 0;  ///< threads that the largest tile has work for
};

}  // namespace

kernels::MailArgs mail_args(const RankContext& context, const Mail& mail, kernels::FaultRecord* fault) {
  require(mail.messages.size() <= kernels::max_messages,
          [&] { return fmt::format("{} sends and receives in one call: expected {} at most", mail.messages.size(), kernels::max_messages); });
  Mailing mailing(context, fault);
  // Receives first: they give the credits that a peer's sends wait for.
  for (const bool sends : {false, true})
    for (int peer = 0; peer < context.ranks; ++peer)
      if (peer != context.rank) mailing.add_queue(mail, peer, sends);
  return mailing.finish();
}

NewWay new_way_to(const RankContext& context, int peer) {
  const auto board_in = [&](const std::array<std::byte*, max_ranks>& pools) {
    return reinterpret_cast<kernels::MailBoard*>(pools[static_cast<std::size_t>(context.rank)] + kernels::Layout::mail_board);
  };
  return {board_in(context.pools)->sent[peer], board_in(context.mail_ways.common)->credits[peer]};
}

}  // namespace collectives
