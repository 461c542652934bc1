#include <fmt/format.h>

#include <algorithm>

#include "base/require.hpp"
#include "comm/impl.hpp"
#include "comm/prove.hpp"

#if COLLECTIVES_HAS_CUDA
#include "base/cuda.hpp"
#endif

namespace collectives {
namespace {

bool maps(const MeetingPlaces& places, std::size_t rank, std::size_t peer) { return (places.unmapped[rank] >> peer & 1u) == 0; }

/// Lets every rank's device reach the pools that it writes or reads.
void grant_access(const World& world, const MeetingPlaces& places, const std::vector<int>& devices) {
  if (places.own != PoolKind::device) return;
  for (std::size_t rank = 0; rank < devices.size(); ++rank)
    for (std::size_t peer = 0; peer < devices.size(); ++peer)
      if (maps(places, peer, rank)) world.pools[rank].pool->grant(devices[peer]);
}

void set_addresses(RankContext& context, const World& world, const MeetingPlaces& places) {
  const auto own = static_cast<std::size_t>(context.rank);
  context.out_of_reach = places.out_of_reach[own];
  context.pools_in_device_memory = is_device_memory(places.own);
  const auto& common = places.common ? world.common : world.pools;
  for (std::size_t peer = 0; peer < world.pools.size(); ++peer) {
    context.pools[peer] = maps(places, own, peer) ? world.pools[peer].pool->base() : nullptr;
    context.common[peer] = common[peer].pool->base();
  }
}

/// Pools where the ranks of this fabric meet.
MeetingPlaces meet(World& world, const Fabric& fabric, const std::vector<int>& devices, const Settings& settings, const kernels::Layout& layout) {
  const MeetingPlaces meeting = meeting_places(fabric);
  world.pools = make_rank_pools(meeting.own, devices, settings, layout);
  if (meeting.common) world.common = make_rank_pools(*meeting.common, devices, settings, layout);
  grant_access(world, meeting, devices);
  return meeting;
}

/// Moves data over the links that nothing has proved yet. Where they fail, `fabric` leads through host memory. True if there were any.
bool prove_all(const World& world, const MeetingPlaces& meeting, Fabric& fabric, const std::vector<int>& devices, const kernels::Layout& layout) {
  if (meeting.own != PoolKind::device) return false;
  std::vector<int> first;
  for (const int device : devices) first.push_back(static_cast<int>(std::find(devices.begin(), devices.end(), device) - devices.begin()));
  const RankMasks due = due_proofs(fabric, first);
  if (!any(due)) return false;
  std::vector<ProvingRank> ranks;
  for (std::size_t rank = 0; rank < devices.size(); ++rank) {
    ProvingRank& own = ranks.emplace_back(ProvingRank{.rank = static_cast<int>(rank), .device = devices[rank]});
    for (std::size_t peer = 0; peer < devices.size(); ++peer)
      if (maps(meeting, rank, peer)) own.pools[peer] = world.pools[peer].pool->base();
  }
  return demote(fabric, prove(ranks, due, fabric.ranks, layout, now_ns()), first);
}

}  // namespace

std::vector<Communicator> Communicator::create_local(const std::vector<int>& devices, const Options& options) {
  const int ranks = static_cast<int>(devices.size());
  require(ranks >= 1 && ranks <= max_ranks, [&] { return fmt::format("{} ranks: expected 1 to {}", ranks, max_ranks); });
  const Settings settings = settings_from(options);
  const Backend backend = resolve_backend(options.backend);
#if COLLECTIVES_HAS_CUDA
  if (backend == Backend::cuda)
    for (const int device : devices)
      require(device >= 0 && device < cuda_device_count(), [&] { return fmt::format("CUDA device {}: expected 0 to {}", device, cuda_device_count() - 1); });
#endif
  // On the host the numbers only count ranks.
  const std::vector<int> places = backend == Backend::cuda ? devices : std::vector<int>(devices.size(), -1);
  KnownFabric known = fabric_for(devices, backend, settings);
  Fabric& fabric = known.fabric;
  expect_mode(known, settings.p2p.mode);
  std::size_t share = SIZE_MAX;
  for (const int device : places) {
    const auto pools = static_cast<std::size_t>(std::count(places.begin(), places.end(), device)) * meeting_places(fabric).pools_a_bound();
    share = std::min(share, share_of(pool_room(device, settings.options.pool_bytes), pools, backend));
  }
  const kernels::Layout layout = layout_for(share, backend, copy_room(settings, fabric), slot_shares(fabric));

  auto world = std::make_shared<World>();
  MeetingPlaces meeting = meet(*world, fabric, places, settings, layout);
  if (options.prove_links && prove_all(*world, meeting, fabric, places, layout)) {
    note_failed_proofs(known);
    expect_mode(known, settings.p2p.mode);
    world->forget_pools();
    meeting = meet(*world, fabric, places, settings, layout);
  }
  log_choice(known, settings.p2p.mode);
  const PlannerOptions plan_by = planner_options(settings, layout);
  auto planner = std::make_unique<Planner>(fabric, plan_by);
  if (const auto timings = kept_timings(settings, known.identity, *planner)) planner->learn(*timings);
  world->plans = std::make_unique<PlanShelf>(std::move(planner), plan_by);
  world->identity = known.identity;
  world->local_board = std::make_unique<DemotionBoard>();
  world->settings = settings;
  world->layout = layout;
  world->devices = devices;

  std::vector<Communicator> communicators;
  for (int rank = 0; rank < ranks; ++rank) {
    RankContext context{.rank = rank,
                        .ranks = ranks,
                        .device = places[static_cast<std::size_t>(rank)],
                        .shares_device = backend == Backend::cuda && std::count(places.begin(), places.end(), places[static_cast<std::size_t>(rank)]) > 1,
                        .timeout_ns = std::uint64_t{settings.timeout_ms} * 1'000'000,
                        .first_epoch = options.first_epoch,
                        .layout = layout,
                        .mail_lanes = world->plans->first().mail_lanes(kernels::max_mail_lanes),
                        .mail_blocks = world->plans->first().mail_blocks(),
                        .mail_wire = settings.options.wire,
                        .early_launch = may_launch_early(settings, fabric)};
    set_addresses(context, *world, meeting);
    communicators.push_back(Communicator(std::make_unique<Impl>(world, world->pools[static_cast<std::size_t>(rank)], context, backend, settings.timeout_ms)));
  }
  return communicators;
}

}  // namespace collectives
