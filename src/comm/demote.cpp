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

void Communicator::Impl::follow(Stream stream) {
  // A failure here is not this rank's alone: the peers are on their way to a call that it will not make.
  try {
    if (const auto round = demotions.begin(calls_ + 1)) turn_to(*round, stream);
  } catch (const Error& error) {
    death_ = error;
    executor->abort(true);
    throw;
  }
}

void Communicator::Impl::turn_to(const DemotionBoard::Round& round, Stream stream) {
  const PoolBases common = lacks_room_ ? world->room() : common_;
  // Peers that go by the round already listen in memory that the executor does not know yet.
  Rollback failed([&] {
    for (int peer = 0; peer < size; ++peer)
      if (peer != rank)
        signal_relaxed(&reinterpret_cast<kernels::Control*>(common[static_cast<std::size_t>(peer)])->poison,
                       kernels::poison(kernels::FaultKind::aborted, static_cast<std::uint32_t>(rank), static_cast<std::uint32_t>(rank)));
  });
  if (lacks_room_) world->open_room(device);
  const Planner& planner = world->plans->without(round.apart);
  executor->reroute(pairs_apart(planner.fabric())[static_cast<std::size_t>(rank)], common, stream);
  failed.dismiss();
  common_ = common;
  lacks_room_ = false;
  planner_ = &planner;
  plans_mark_ = mark_of(planner, round.number);
  replanned_at = calls_ + 1;
  if (rank == 0) log(LogLevel::info, "from call {} on {} meet in host memory, as rank {} asked", replanned_at, list_pairs(round.apart), round.by);
}

}  // namespace collectives
