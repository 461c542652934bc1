#include <fmt/format.h>

#include <algorithm>

#include "base/log.hpp"
#include "base/require.hpp"
#include "comm/impl.hpp"

#if COLLECTIVES_HAS_CUDA
#include "base/cuda.hpp"
#endif

namespace collectives {
namespace {

/// A rank's part of the bound of its device.
std::size_t share_of(int device, const std::vector<int>& devices, std::size_t bound) {
  return bound / static_cast<std::size_t>(std::count(devices.begin(), devices.end(), device));
}

std::vector<RankPool> make_pools(PoolKind kind, const std::vector<int>& devices, const Settings& settings, const kernels::Layout& layout) {
  std::vector<RankPool> pools;
  for (const int device : devices) {
    const PoolKind own = kind == PoolKind::device ? device_pool_kind(device) : kind;
    pools.push_back(make_rank_pool(own, device, pool_bound(device, settings.options.pool_bytes), layout, settings.options.first_epoch));
  }
  if (kind == PoolKind::device)
    for (const RankPool& pool : pools)
      for (const int device : devices) pool.pool->grant(device);
  return pools;
}

PoolKind pool_kind_for(const Fabric& fabric) {
  if (fabric.backend == Backend::host) return PoolKind::host;
  if (fabric.fully_connected()) return PoolKind::device;
  log(LogLevel::info, "not every pair of GPUs has peer access: the ranks meet in pinned host memory");
  return PoolKind::pinned;
}

}  // namespace

std::vector<Communicator> Communicator::create_local(const std::vector<int>& devices, const Options& options) {
  const int ranks = static_cast<int>(devices.size());
  require(ranks >= 2 && ranks <= max_ranks, [&] { return fmt::format("{} ranks: expected 2 to {}", ranks, max_ranks); });
  const Settings settings = settings_from(options);
  const Backend backend = resolve_backend(options.backend);
#if COLLECTIVES_HAS_CUDA
  if (backend == Backend::cuda)
    for (const int device : devices)
      require(device >= 0 && device < cuda_device_count(), [&] { return fmt::format("CUDA device {}: expected 0 to {}", device, cuda_device_count() - 1); });
#endif
  // On the host the numbers only count ranks.
  const std::vector<int> places = backend == Backend::cuda ? devices : std::vector<int>(devices.size(), -1);
  std::size_t share = SIZE_MAX;
  for (const int device : places) share = std::min(share, share_of(device, places, pool_bound(device, settings.options.pool_bytes)));
  const kernels::Layout layout = layout_for(share, backend);
  const Fabric fabric = fabric_for(devices, backend, settings);

  auto world = std::make_shared<World>();
  world->planner = std::make_shared<const Planner>(fabric, planner_options(settings, layout));
  world->pools = make_pools(pool_kind_for(fabric), places, settings, layout);

  std::vector<Communicator> communicators;
  for (int rank = 0; rank < ranks; ++rank) {
    RankContext context{.rank = rank,
                        .ranks = ranks,
                        .device = places[static_cast<std::size_t>(rank)],
                        .timeout_ns = std::uint64_t{settings.timeout_ms} * 1'000'000,
                        .first_epoch = options.first_epoch,
                        .layout = layout};
    context.pools_in_device_memory = is_device_memory(world->pools[0].pool->ticket().kind);
    for (std::size_t peer = 0; peer < world->pools.size(); ++peer) context.pools[peer] = world->pools[peer].pool->base();
    communicators.push_back(Communicator(std::make_unique<Impl>(world, world->pools[static_cast<std::size_t>(rank)], std::move(context), backend)));
  }
  return communicators;
}

}  // namespace collectives
