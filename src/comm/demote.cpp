#include <fmt/format.h>

#include <algorithm>

#include "base/log.hpp"
#include "base/require.hpp"
#include "comm/impl.hpp"
#include "memory/rollback.hpp"

// Links that are taken out while a communicator lives: what a rank does when it asks for that, and when its plans change.
namespace collectives {
namespace {

/// "0-2, 1-3"
std::string list_pairs(const RankMasks& apart) {
  std::string text;
  for (int b = 0; b < max_ranks; ++b)
    for (int a = 0; a < b; ++a)
      if ((apart[static_cast<std::size_t>(a)] >> b & 1u) != 0) text += fmt::format("{}{}-{}", text.empty() ? "" : ", ", a, b);
  return text;
}

void expect_rank(int rank, int ranks) {
  require(rank >= 0 && rank < ranks, [&] { return fmt::format("rank {} has no link to take out: expected 0 to {}", rank, ranks - 1); });
}

}  // namespace

void Communicator::demote(int from, int to) {
  expect_rank(from, size());
  expect_rank(to, size());
  require(from != to, [&] { return fmt::format("rank {} has no link to itself: expected two ranks", from); });
  RankMasks pairs{};
  pairs[static_cast<std::size_t>(from)] = 1u << to;
  pairs[static_cast<std::size_t>(to)] = 1u << from;
  impl_->take_out(pairs);
}

void Communicator::demote_refused() { impl_->take_out(impl_->refused_now()); }

std::uint64_t Communicator::replanned_at() const { return impl_->replanned_at; }

void World::make_room() {
  if (board().has_room != 0) return;
  if (reserve)
    reserve->fill(layout, settings.options.first_epoch);
  else
    common = make_rank_pools(PoolKind::pinned, devices, settings, layout);
  board().has_room = 1;
}

void World::open_room(int device) {
  if (reserve) reserve->open(device, pool_bound(device, settings.options.pool_bytes));
}

PoolBases World::room() const {
  if (reserve) return reserve->pools();
  PoolBases bases{};
  for (std::size_t rank = 0; rank < common.size(); ++rank) bases[rank] = common[rank].pool->base();
  return bases;
}

std::uint32_t Communicator::Impl::mark_of(const Planner& planner, std::uint64_t round) {
  const std::uint64_t digest = planner.digest();
  return static_cast<std::uint32_t>(digest ^ digest >> 32) + static_cast<std::uint32_t>(round);
}

void Communicator::Impl::take_out(RankMasks pairs) {
  expect_alive(false);
  const RankMasks from_the_start = pairs_apart(world->plans->first().fabric());
  for (std::size_t r = 0; r < pairs.size(); ++r) pairs[r] &= ~from_the_start[r];
  if (!any(pairs)) return;
  require(world->settings.p2p.mode != PeerMode::p2p, [&] { return fmt::format("mode p2p: every pair of ranks shall reach each other's memory, so {} cannot be taken out", list_pairs(pairs)); },
          ErrorCode::unsupported);
  demotions.ask(pairs, [&](const RankMasks& apart) {
    (void)world->plans->without(apart);
    if (!lacks_room_) return;
    world->make_room();
    world->open_room(device);
  });
}

RankMasks Communicator::Impl::refused_now() const {
  const Settings now = settings_from(world->settings.options);
  const auto& devices = world->devices;
  if (std::find(devices.begin(), devices.end(), -1) == devices.end()) return pairs_apart(fabric_for(devices, backend, now).fabric);
  KnownFabric known{world->plans->first().fabric(), {}};
  refuse_pairs(known, "refused by COLLECTIVES_P2P", [&](int a, int b) { return now.p2p.refuses(a, b); });
  return pairs_apart(known.fabric);
}

const Planner& Communicator::Impl::planner_ahead() const {
  const auto round = demotions.foresee(calls_ + 1);
  return round ? world->plans->without(round->apart) : *planner_;
}

void Communicator::Impl::follow() {
  take_part([&] {
    if (const auto round = demotions.begin(calls_ + 1)) turn_to(*round);
  });
}

const PoolBases& Communicator::Impl::meeting_room() {
  if (!lacks_room_) return room_;
  const PoolBases room = world->room();
  // Peers that meet here already listen in memory that the executor does not know yet.
  Rollback failed([&] {
    for (int peer = 0; peer < size; ++peer)
      if (peer != rank)
        signal_relaxed(&reinterpret_cast<kernels::Control*>(room[static_cast<std::size_t>(peer)])->poison,
                       kernels::poison(kernels::FaultKind::aborted, static_cast<std::uint32_t>(rank), static_cast<std::uint32_t>(rank)));
  });
  world->open_room(device);
  failed.dismiss();
  lacks_room_ = false;
  return room_ = room;
}

void Communicator::Impl::turn_to(const DemotionBoard::Round& round) {
  const PoolBases& room = meeting_room();
  const Planner& planner = world->plans->without(round.apart);
  executor->reroute(pairs_apart(planner.fabric())[static_cast<std::size_t>(rank)], room);
  go_by(planner, round.number);
  if (rank == 0) log(LogLevel::info, "from call {} on {} meet in host memory, as rank {} asked", replanned_at, list_pairs(round.apart), round.by);
}

void Communicator::Impl::go_by(const Planner& planner, std::uint64_t round) {
  planner_ = &planner;
  plans_mark_ = mark_of(planner, round);
  replanned_at = calls_ + 1;
  rehearsed_ = nullptr;  // it was the former planner's
}

void Communicator::Impl::turn_mail(int peer, bool sends, Stream stream) {
  std::uint32_t& turned = turned_[sends ? 0 : 1];
  if ((turned >> peer & 1u) != 0) return;
  take_part([&] { executor->reroute_mail(peer, sends, meeting_room(), stream); });
  turned |= 1u << peer;
}

void Communicator::Impl::send_off(const Mail& mail, Stream stream) {
  MessageCounts upto = messages_;
  for (const Message& message : mail.messages) ++upto.at(message.peer, message.in != nullptr);
  take_part([&] { demotions.begin_messages(upto); });
  if (demotions.is_quiet()) {
    executor->enqueue(mail, stream);
    messages_ = upto;
    return;
  }
  // Where a link goes amid the messages of a call, the later ones have a call of their own.
  Mail parts[2] = {{.messages = {}, .own = mail.own}, {}};
  MessageCounts number = messages_;
  for (const Message& message : mail.messages) {
    const bool sends = message.in != nullptr;
    const std::uint64_t turn = demotions.turn_of(message.peer, sends);
    const bool amid = ++number.at(message.peer, sends) >= turn && messages_.at(message.peer, sends) + 1 < turn;
    parts[amid].messages.push_back(message);
  }
  for (const Mail& part : parts) {
    if (part.messages.empty() && part.own.empty()) continue;
    for (const Message& message : part.messages) {
      const bool sends = message.in != nullptr, later = &part == &parts[1];
      if (later || messages_.at(message.peer, sends) + 1 >= demotions.turn_of(message.peer, sends)) turn_mail(message.peer, sends, stream);
    }
    executor->enqueue(part, stream);
  }
  messages_ = upto;
}

}  // namespace collectives
