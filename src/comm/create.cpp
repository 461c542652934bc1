#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/log.hpp"
#include "base/require.hpp"
#include "comm/impl.hpp"
#include "comm/prove.hpp"

#if COLLECTIVES_HAS_CUDA
#include "base/cuda.hpp"
#include "topology/verify_quick.hpp"
#endif

namespace collectives {
namespace {

using Bytes = std::vector<std::uint8_t>;

/// What a rank tells the others first. Fixed layout: ranks of another build are refused before this is read.
struct Introduction {
  Backend backend;
  std::uint8_t invariant;
  std::uint8_t prove_links;
  PeerMode mode;
  std::int16_t algorithm;  ///< -1: not forced
  std::int16_t arity;
  std::int16_t wire;  ///< -1: not forced
  std::int32_t max_blocks;
  std::uint32_t first_epoch;
  std::uint64_t usual_room, room_left;  ///< within the pool's bound
  char pci[32];          ///< the GPU's address, empty on the host
};

template <typename T>
std::vector<T> gather_all(Mesh& mesh, const T& mine) {
  static_assert(std::is_trivially_copyable_v<T>);
  Bytes bytes(sizeof mine);
  std::memcpy(bytes.data(), &mine, sizeof mine);
  std::vector<T> all;
  for (const Bytes& from : mesh.all_gather(bytes)) {
    require(from.size() == sizeof(T), "a rank of another build of libcollectives sent a message of another size", ErrorCode::unsupported);
    std::memcpy(&all.emplace_back(), from.data(), sizeof(T));
  }
  return all;
}

Introduction introduce(const Settings& settings, Backend backend, int device) {
  Introduction mine{};
  mine.backend = backend;
  mine.invariant = settings.options.invariant;
  mine.prove_links = settings.options.prove_links;
  mine.mode = settings.p2p.mode;
  mine.algorithm = settings.options.algorithm ? static_cast<std::int16_t>(settings.options.algorithm->algorithm) : -1;
  mine.arity = settings.options.algorithm ? static_cast<std::int16_t>(settings.options.algorithm->arity) : -1;
  mine.wire = settings.options.wire ? static_cast<std::int16_t>(*settings.options.wire) : -1;
  mine.max_blocks = settings.options.max_blocks;
  mine.first_epoch = settings.options.first_epoch;
  const PoolRoom room = pool_room(device, settings.options.pool_bytes);
  mine.usual_room = room.usual;
  mine.room_left = room.left;
#if COLLECTIVES_HAS_CUDA
  if (backend == Backend::cuda) cuda_check(cudaDeviceGetPCIBusId(mine.pci, sizeof mine.pci, device));
#endif
  return mine;
}

void expect_same_options(const std::vector<Introduction>& all, int rank) {
  const Introduction& mine = all[static_cast<std::size_t>(rank)];
  for (std::size_t peer = 0; peer < all.size(); ++peer) {
    const Introduction& other = all[peer];
    require(other.backend == mine.backend,
            [&] { return fmt::format("rank {} is on {} and rank {} on {}: expected one backend", rank, mine.backend == Backend::cuda ? "CUDA" : "the host", peer,
                                     other.backend == Backend::cuda ? "CUDA" : "the host"); },
            ErrorCode::mismatch);
    const bool same = other.invariant == mine.invariant && other.algorithm == mine.algorithm && other.arity == mine.arity && other.wire == mine.wire &&
                      other.max_blocks == mine.max_blocks && other.first_epoch == mine.first_epoch && other.prove_links == mine.prove_links &&
                      (other.mode == PeerMode::p2p) == (mine.mode == PeerMode::p2p);
    require(same, [&] { return fmt::format("ranks {} and {} were given different options: expected the same on every rank", rank, peer); }, ErrorCode::mismatch);
  }
}

/// The ranks' GPUs by this process's ordinals: -1 for one that CUDA does not show here.
std::vector<int> ordinals_of(const std::vector<Introduction>& all, Backend backend) {
  std::vector<int> devices;
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    int device = backend == Backend::host ? static_cast<int>(rank) : -1;
#if COLLECTIVES_HAS_CUDA
    if (backend == Backend::cuda && cudaDeviceGetByPCIBusId(&device, all[rank].pci) != cudaSuccess) {
      (void)cudaGetLastError();
      device = -1;
    }
#endif
    devices.push_back(device);
  }
  return devices;
}

/// Rank 0's fabric, on every rank; why, on rank 0. A GPU that rank 0 cannot see counts as out of reach of the others.
KnownFabric agree_on_fabric(Mesh& mesh, const std::vector<int>& devices, Backend backend, const Settings& settings) {
  const bool all_visible = std::find(devices.begin(), devices.end(), -1) == devices.end();
  Bytes bytes;
  KnownFabric known;
  if (mesh.rank() == 0) {
    known = all_visible ? fabric_for(devices, backend, settings) : KnownFabric{host_fabric(mesh.size()), {}};
    if (!all_visible) {
      Fabric& fabric = known.fabric;
      log(LogLevel::warn, "rank 0 does not see every rank's GPU (CUDA_VISIBLE_DEVICES?): the ranks meet in pinned host memory");
      fabric.backend = backend;
      refuse_pairs(known, "rank 0 does not see every GPU", [](int, int) { return true; });
#if COLLECTIVES_HAS_CUDA
      int multiprocessors = 0;
      cuda_check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, devices[0]));
      fabric.multiprocessors = static_cast<std::uint32_t>(multiprocessors);
#endif
    }
    bytes = to_bytes(known.fabric);
  }
  // As long as rank 0's: a round carries equally many bytes of every rank.
  bytes.resize(gather_all(mesh, bytes.size())[0]);
  known.fabric = fabric_from_bytes(mesh.all_gather(bytes)[0]);
  return known;
}

/// On every rank, with rank 0's reasons.
void expect_mode_together(Mesh& mesh, KnownFabric& known, PeerMode mode) {
  const std::string mine = missing_pairs(known);
  if (mode != PeerMode::p2p || mine.empty()) return;
  Bytes text(2048);  // as long on every rank, with a zero at its end
  std::copy_n(mine.begin(), std::min(mine.size(), text.size() - 1), text.begin());
  throw Error(ErrorCode::unsupported, reinterpret_cast<const char*>(mesh.all_gather(text)[0].data()));
}

std::size_t smallest_share(const std::vector<Introduction>& all, const Fabric& fabric) {
  std::size_t share = SIZE_MAX;
  for (const Introduction& rank : all) {
    const auto beside = std::count_if(all.begin(), all.end(), [&](const Introduction& other) { return std::strcmp(other.pci, rank.pci) == 0; });
    const PoolRoom room{static_cast<std::size_t>(rank.usual_room), static_cast<std::size_t>(rank.room_left)};
    share = std::min(share, share_of(room, static_cast<std::size_t>(beside) * meeting_places(fabric).pools_a_bound(), rank.backend));
  }
  return share;
}

using Addresses = std::array<std::byte*, max_ranks>;

/// Maps the pools of the peers but for those named. An empty text, or why it did not work: the ranks must agree before anyone gives up.
std::string map_peers(World& world, Pool& pool, const RankContext& context, std::uint32_t unmapped, Addresses& addresses) {
  const auto tickets = gather_all(*world.mesh, pool.ticket());
  // A pool that needs no descriptor still takes part in the exchange, with any.
  FileDescriptor own = pool.export_descriptor();
  if (!own) own = FileDescriptor(system_check(::dup(STDERR_FILENO), "dup"));
  const auto descriptors = world.mesh->exchange(own);
  // The one catch beside the C edge: a failure here is not this rank's alone, it must be told before it is thrown.
  try {
    for (std::size_t peer = 0; peer < tickets.size(); ++peer) {
      if (static_cast<int>(peer) == context.rank) {
        addresses[peer] = pool.base();
      } else if ((unmapped >> peer & 1u) == 0) {
        world.mappings.push_back(map_peer(tickets[peer], descriptors[peer], context.device));
        addresses[peer] = world.mappings.back()->base();
      }
    }
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

/// Makes this rank's pool of `kind` in `pools` and maps the peers'. False, on every rank, if any of them failed.
bool connect(World& world, std::vector<RankPool>& pools, const RankContext& context, PoolKind kind, std::uint32_t unmapped, const Settings& settings,
             Addresses& addresses) {
  const PoolKind own = kind == PoolKind::device ? device_pool_kind(context.device) : kind;
  pools.push_back(make_rank_pool(own, context.device, pool_bound(context.device, settings.options.pool_bytes), context.layout, context.first_epoch));
  const std::string failure = map_peers(world, *pools.back().pool, context, unmapped, addresses);
  const auto failed = gather_all(*world.mesh, static_cast<std::uint8_t>(!failure.empty()));
  if (!failure.empty()) log(LogLevel::warn, "rank {} cannot map its peers' memory: {}", context.rank, failure);
  return std::all_of(failed.begin(), failed.end(), [](std::uint8_t f) { return f == 0; });
}

/// Pools where the ranks meet, in pinned host memory if the devices' cannot be shared after all.
void meet(World& world, RankContext& context, const MeetingPlaces& places, const Settings& settings) {
  context.out_of_reach = places.out_of_reach[static_cast<std::size_t>(context.rank)];
  context.pools_in_device_memory = places.own == PoolKind::device;
  bool ok = connect(world, world.pools, context, places.own, places.unmapped[static_cast<std::size_t>(context.rank)], settings, context.pools);
  if (ok && places.common) {
    ok = connect(world, world.common, context, *places.common, 0, settings, context.common);
    require(ok, "the ranks cannot share host memory: see the warnings of those that failed", ErrorCode::unsupported);
    return;
  }
  if (!ok) {
    require(places.own == PoolKind::device, "the ranks cannot share host memory: see the warnings of those that failed", ErrorCode::unsupported);
    require(settings.p2p.mode != PeerMode::p2p, "mode p2p: the GPUs reach each other, but their memory cannot be mapped: see the warnings of those that failed",
            ErrorCode::unsupported);
    log(LogLevel::warn, "rank {}: falling back to pinned host memory", context.rank);
    world.mappings.clear();
    world.pools.clear();
    context.out_of_reach = 0;
    context.pools_in_device_memory = false;
    require(connect(world, world.pools, context, PoolKind::pinned, 0, settings, context.pools),
            "the ranks can share neither device nor pinned host memory: see the warnings above", ErrorCode::unsupported);
  }
  context.common = context.pools;
}

/// By rank: the first rank on its GPU.
std::vector<int> first_on_gpu(const std::vector<Introduction>& all) {
  std::vector<int> first;
  for (const Introduction& rank : all) {
    const auto same = [&](const Introduction& other) { return std::strcmp(other.pci, rank.pci) == 0; };
    first.push_back(static_cast<int>(std::find_if(all.begin(), all.end(), same) - all.begin()));
  }
  return first;
}

/// Moves data over the links that nothing has proved yet. Where they fail, `fabric` leads through host memory on every rank.
/// True if there were any.
bool prove_together(Mesh& mesh, const RankContext& context, Fabric& fabric, const std::vector<int>& first) {
  const RankMasks due = due_proofs(fabric, first);
  if (!any(due)) return false;
#if COLLECTIVES_HAS_CUDA
  prepare_quick_proof(context.device);
#endif
  // Rank 0's clock, for a value that these pools have never held. Who has it knows that everybody has mapped everything.
  const Mark nonce = gather_all(mesh, now_ns())[0];
  const RankMasks own = prove({{.rank = context.rank, .device = context.device, .pools = context.pools}}, due, context.ranks, context.layout, nonce);
  const auto found = gather_all(mesh, own[static_cast<std::size_t>(context.rank)]);
  RankMasks failed{};
  std::copy(found.begin(), found.end(), failed.begin());
  return demote(fabric, failed, first);
}

/// Rank 0's, on every rank.
std::optional<Timings> agree_on_timings(Mesh& mesh, const KnownFabric& known, const Settings& settings, const Planner& planner) {
  Bytes bytes;
  if (mesh.rank() == 0)
    if (const auto timings = kept_timings(settings, known.identity, planner)) {
      const std::string text = to_text(*timings);
      bytes.assign(text.begin(), text.end());
    }
  bytes.resize(gather_all(mesh, bytes.size())[0]);
  if (bytes.empty()) return {};
  bytes = mesh.all_gather(bytes)[0];
  return timings_from_text({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

std::unique_ptr<PlanShelf> plan_together(Mesh& mesh, const KnownFabric& known, const Settings& settings, const kernels::Layout& layout) {
  const PlannerOptions options = planner_options(settings, layout);
  auto planner = std::make_unique<Planner>(known.fabric, options);
  if (const auto timings = agree_on_timings(mesh, known, settings, *planner)) planner->learn(*timings);
  // Packed trees come from a program in floating point: it must have come out the same everywhere.
  for (const std::uint64_t digest : gather_all(mesh, planner->digest()))
    require(digest == planner->digest(), "ranks made different plans for one machine: expected the same build of libcollectives on every rank", ErrorCode::mismatch);
  return std::make_unique<PlanShelf>(std::move(planner), options);
}

}  // namespace

Communicator Communicator::create(const UniqueId& id, int rank, int size, const Options& options) {
  require(size >= 1 && size <= max_ranks, [&] { return fmt::format("{} ranks: expected 1 to {}", size, max_ranks); });
  require(rank >= 0 && rank < size, [&] { return fmt::format("rank {} of {}: expected 0 to {}", rank, size, size - 1); });
  const Settings settings = settings_from(options);
  const Backend backend = resolve_backend(options.backend);
  int device = -1;
#if COLLECTIVES_HAS_CUDA
  if (backend == Backend::cuda) cuda_check(cudaGetDevice(&device));
#endif

  auto world = std::make_shared<World>();
  world->mesh = Mesh::join(id, rank, size, settings.timeout_ms);
  Mesh& mesh = *world->mesh;
  const auto introductions = gather_all(mesh, introduce(settings, backend, device));
  expect_same_options(introductions, rank);
  world->devices = ordinals_of(introductions, backend);
  KnownFabric known = agree_on_fabric(mesh, world->devices, backend, settings);
  Fabric& fabric = known.fabric;
  expect_mode_together(mesh, known, settings.p2p.mode);
  const kernels::Layout layout = layout_for(smallest_share(introductions, fabric), backend, copy_room(settings, fabric), slot_shares(fabric));

  RankContext context{.rank = rank,
                      .ranks = size,
                      .device = device,
                      .timeout_ns = std::uint64_t{settings.timeout_ms} * 1'000'000,
                      .first_epoch = options.first_epoch,
                      .layout = layout};
  context.lost_peer = [&mesh] { return mesh.lost_peer(); };
  context.left_peers = [&mesh] { return mesh.left_peers(); };
  meet(*world, context, meeting_places(fabric), settings);
  if (options.prove_links && context.pools_in_device_memory && prove_together(mesh, context, fabric, first_on_gpu(introductions))) {
    note_failed_proofs(known);
    expect_mode_together(mesh, known, settings.p2p.mode);
    world->forget_pools();
    context.pools = context.common = {};
    meet(*world, context, meeting_places(fabric), settings);
  }
  if (meeting_places(fabric).own == PoolKind::device && !context.pools_in_device_memory) note_unmapped(known);
  if (rank == 0) log_choice(known, settings.p2p.mode);
  world->plans = plan_together(mesh, known, settings, layout);
  world->identity = known.identity;
  world->settings = settings;
  world->layout = layout;
  world->reserve.emplace(mesh, context.pools_in_device_memory && context.common == context.pools ? layout.bytes() : 0);
  context.mail_lanes = world->plans->first().mail_lanes(kernels::max_mail_lanes);
  context.mail_blocks = world->plans->first().mail_blocks();
  context.mail_wire = settings.options.wire;
  context.early_launch = may_launch_early(settings, fabric);
  RankPool& pool = world->pools[0];
  Communicator communicator(std::make_unique<Impl>(world, pool, context, backend, settings.timeout_ms));
  // Nobody calls before every pool is ready and every kernel is loaded.
  mesh.barrier();
  return communicator;
}

}  // namespace collectives
