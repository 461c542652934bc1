#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <collectives/verify.hpp>
#include <cstring>

#include "base/require.hpp"
#include "comm/impl.hpp"
#include "comm/timings_cache.hpp"
#include "planner/shape.hpp"

#if COLLECTIVES_HAS_CUDA
#include "base/cuda.hpp"
#endif

namespace collectives {
namespace {

constexpr std::size_t smallest_part = std::size_t{128} << 10;  // slots are laid out in parts of this
constexpr std::size_t shares_a_part = 32;                         // of the eight parts of a pool on a GPU
constexpr std::size_t largest_copy = std::size_t{32} << 20;       // of one copy of a copy engine: what begins and ends it is little beside it
constexpr std::size_t cached_copies = std::size_t{32} << 20;      // of all ranks in host memory: four H200 copy 45 GB/s each both ways through so much, through twice as much 32
constexpr std::size_t barrier_bytes = 256;
constexpr std::size_t device_granule = std::size_t{2} << 20, host_granule = std::size_t{64} << 10;

constexpr std::size_t fixed_bytes = kernels::Layout::slots + barrier_bytes;

/// How the slots are cut. GPUs move what engines send over sentinels, and a large message wants many tiles under way; the host polls
/// flags only. Memory comes by granules: a pool that ends within one costs all of it.
struct SlotParts {
  explicit SlotParts(Backend backend)
      : of_sentinels(backend == Backend::cuda ? 3 : 1),
        largest(backend == Backend::cuda ? shares_a_part * largest_slot_share : std::size_t{4} << 20),
        granule(backend == Backend::cuda ? device_granule : host_granule) {}

  std::size_t count() const { return 2 * (of_sentinels + 1); }
  std::size_t smallest_pool() const { return (fixed_bytes + count() * smallest_part + granule - 1) / granule * granule; }

  std::size_t of_sentinels;
  std::size_t largest;
  std::size_t granule;
};

/// The control words, flags and credits of a pool before the first call.
std::vector<std::byte> initial_front(Epoch first_epoch) {
  std::vector<std::byte> image(kernels::Layout::slots);
  kernels::Control control{};
  control.next = mark(first_epoch, 0);
  for (auto& half : control.headers)
    for (Mark& header : half) header = kernels::header_before(first_epoch);
  std::memcpy(image.data(), &control, sizeof control);
  std::vector<Mark> flags((kernels::Layout::mail_board - kernels::Layout::flags) / sizeof(Mark), kernels::flag_before(first_epoch));
  std::memcpy(image.data() + kernels::Layout::flags, flags.data(), flags.size() * sizeof(Mark));
  // Counters that begin where epochs do wrap where they do.
  kernels::MailBoard board{};
  for (auto& lanes : board.credits) std::fill(std::begin(lanes), std::end(lanes), mark(first_epoch, 0));
  for (auto& lanes : board.sent) std::fill(std::begin(lanes), std::end(lanes), first_epoch);
  for (auto& lanes : board.received) std::fill(std::begin(lanes), std::end(lanes), first_epoch);
  std::memcpy(image.data() + kernels::Layout::mail_board, &board, sizeof board);
  kernels::CopyBoard copies{};
  std::fill(std::begin(copies.arrived), std::end(copies.arrived), kernels::flag_before(first_epoch));
  std::memcpy(image.data() + kernels::Layout::copy_board, &copies, sizeof copies);
  return image;
}

/// This machine with what an earlier verification proved or refuted of it.
Machine detected_with_verdicts() {
  Machine machine = detect_machine();
  if (const auto verdicts = cached_verification(machine)) apply(machine, *verdicts);
  return machine;
}

}  // namespace

Settings settings_from(const Options& options) {
  const Environment environment = read_environment();
  Settings settings{.options = options, .p2p = environment.p2p, .machine_file = environment.machine_file, .timeout_ms = environment.timeout_ms};
  if (options.mode) settings.p2p = {.mode = *options.mode};
  if (!settings.options.pool_bytes) settings.options.pool_bytes = environment.pool_bytes;
  if (!settings.options.algorithm && !environment.algorithm.empty()) settings.options.algorithm = parse_algorithm(environment.algorithm);
  settings.options.programmatic_launch = options.programmatic_launch || environment.programmatic_launch;
  if (!options.tuned) settings.options.tuned = environment.tuned;
  if (options.timeout_ms) settings.timeout_ms = *options.timeout_ms;
  require(settings.timeout_ms > 0, "a deadline of 0 ms: expected at least 1");
  require(options.wire != Wire::escaped, "the escaped wire is forced: expected sentinel or flagged, for that one is taken where it fits");
  require(options.max_blocks >= 0, [&] { return fmt::format("max_blocks is {}: expected 0 (no limit) or more", options.max_blocks); });
  return settings;
}

Backend resolve_backend(Backend wanted) {
#if COLLECTIVES_HAS_CUDA
  const int devices = wanted == Backend::host ? 0 : cuda_device_count();
  require(wanted != Backend::cuda || devices > 0, [] { return fmt::format("no GPU: {}", why_no_cuda()); }, ErrorCode::unsupported);
  return devices > 0 ? Backend::cuda : Backend::host;
#else
  require(wanted != Backend::cuda, "this build of libcollectives has no CUDA backend: expected one made with the CUDA Toolkit", ErrorCode::unsupported);
  return Backend::host;
#endif
}

std::size_t share_of(const PoolRoom& room, std::size_t pools, Backend backend) {
  const SlotParts parts(backend);
  return std::max(room.usual / pools, std::min(room.left / pools, parts.smallest_pool()));
}

std::size_t copy_room(const Settings& settings, const Fabric& fabric) {
  const bool forced = settings.options.algorithm && settings.options.algorithm->algorithm == Algorithm::copy_two_shot;
  if (!forced || !has_copy_engines(fabric)) return 0;
  const auto ranks = static_cast<std::size_t>(fabric.ranks);
  return fabric.meets_on_host() ? cached_copies / ranks : copy_buffers * (ranks - 1) * largest_copy;
}

kernels::Layout layout_for(std::size_t share, Backend backend, std::size_t copy_room, SlotShares shares) {
  const SlotParts parts(backend);
  share = share / parts.granule * parts.granule;
  require(share >= parts.smallest_pool(),
          [&] {
            return fmt::format("the pool is too small: a rank needs at least {} bytes and its share is {}; COLLECTIVES_POOL_BYTES raises the bound, "
                               "within which are all communicators of a process on one device",
                               parts.smallest_pool(), share);
          },
          ErrorCode::out_of_memory);
  // Slots for copy engines take what the others leave, and half of what is not needed where that is little.
  const std::size_t needed = parts.smallest_pool(), usual = fixed_bytes + parts.count() * parts.largest;
  const std::size_t copies = std::min(copy_room, std::max((share - needed) / 2, share - std::min(share, usual))) / smallest_part * smallest_part;
  share -= copies;
  const std::size_t part = std::min(parts.largest, (share - fixed_bytes) / parts.count() / smallest_part * smallest_part);
  if (backend == Backend::host)
    return {.sentinel_bytes = part, .flagged_bytes = part - part / 4, .mail_bytes = part / 2, .copy_bytes = copies};
  const std::size_t unit = part / shares_a_part;
  return {.sentinel_bytes = shares.sentinels * unit, .flagged_bytes = shares.flags * unit, .mail_bytes = shares.mail * unit, .copy_bytes = copies};
}

RankPool make_rank_pool(PoolKind kind, int device, std::size_t bound, const kernels::Layout& layout, Epoch first_epoch) {
  RankPool made{make_pool(kind, device, bound, layout.bytes() + barrier_bytes), 0};
  const std::size_t front = made.pool->allocate(layout.bytes());
  ensure(front == 0, "the first allocation of a pool is at its base");
  made.barrier_offset = made.pool->allocate(barrier_bytes);
  std::byte* base = made.pool->base();
#if COLLECTIVES_HAS_CUDA
  if (is_device_memory(kind)) {
    const DeviceScope scope(device);
    const std::vector<std::byte> image = initial_front(first_epoch);
    cuda_check(cudaMemcpy(base, image.data(), image.size(), cudaMemcpyHostToDevice));
    cuda_check(cudaMemset(base + layout.half(false, 0), 0xff, 2 * layout.sentinel_bytes));
    cuda_check(cudaMemset(base + layout.mail(), 0xff, layout.mail_bytes));
    cuda_check(cudaDeviceSynchronize());
    return made;
  }
#endif
  fill_pool(base, layout, first_epoch);
  return made;
}

std::vector<RankPool> make_rank_pools(PoolKind kind, const std::vector<int>& devices, const Settings& settings, const kernels::Layout& layout) {
  std::vector<RankPool> pools;
  for (const int device : devices) {
    const PoolKind own = kind == PoolKind::device ? device_pool_kind(device) : kind;
    pools.push_back(make_rank_pool(own, device, pool_bound(device, settings.options.pool_bytes), layout, settings.options.first_epoch));
  }
  return pools;
}

void fill_pool(std::byte* base, const kernels::Layout& layout, Epoch first_epoch) {
  const std::vector<std::byte> image = initial_front(first_epoch);
  std::memcpy(base, image.data(), image.size());
  std::memset(base + layout.half(false, 0), 0xff, 2 * layout.sentinel_bytes);
  std::memset(base + layout.mail(), 0xff, layout.mail_bytes);
}

KnownFabric fabric_for(const std::vector<int>& devices, Backend backend, const Settings& settings) {
  const int ranks = static_cast<int>(devices.size());
  KnownFabric known;
  if (backend == Backend::host && settings.machine_file.empty()) {
    known.fabric = host_fabric(ranks);
    known.identity = identity_of_host();
  } else {
    const Machine machine = settings.machine_file.empty() ? detected_with_verdicts() : read_machine_file(settings.machine_file);
    known = {fabric_of(machine, devices), reasons_of(machine, devices)};
    if (settings.machine_file.empty()) known.identity = identity_of_gpus(machine, devices);
  }
  known.fabric.backend = backend;
  const PeerPolicy in_options{.refused = settings.options.refused};
  refuse_pairs(known, settings.p2p.mode == PeerMode::host ? "mode host" : "refused by COLLECTIVES_P2P", [&](int a, int b) { return settings.p2p.refuses(a, b); });
  refuse_pairs(known, "refused by the options", [&](int a, int b) { return in_options.refuses(a, b); });
  pull_pairs(known, "pulled by COLLECTIVES_P2P", [&](int a, int b) { return settings.p2p.pulls(a, b); });
  return known;
}

RankMasks pairs_apart(const Fabric& fabric) {
  RankMasks apart{};
  for (int a = 0; a < fabric.ranks; ++a)
    for (int b = 0; b < fabric.ranks; ++b)
      if (a != b && !(fabric.link(a, b).direct && fabric.link(b, a).direct)) apart[static_cast<std::size_t>(a)] |= 1u << b;
  return apart;
}

MeetingPlaces meeting_places(const Fabric& fabric) {
  const bool host = fabric.backend == Backend::host;
  const PoolKind common = host ? PoolKind::host : PoolKind::pinned;
  MeetingPlaces places{.own = host ? PoolKind::host : PoolKind::device, .common = {}, .out_of_reach = pairs_apart(fabric), .unmapped = {}};
  int refused = 0;
  for (int a = 0; a < fabric.ranks; ++a)
    for (int b = 0; b < fabric.ranks; ++b) {
      if ((places.out_of_reach[static_cast<std::size_t>(a)] >> b & 1u) == 0) continue;
      if (!fabric.link(b, a).pulled) places.unmapped[static_cast<std::size_t>(a)] |= 1u << b;
      ++refused;
    }
  if (refused == 0) return places;
  // Host ranks of which no two reach each other lose nothing where all pools are common. A GPU keeps one of its own even so: what only its own
  // blocks count by, they would count over PCIe, 4 us a block.
  if (host && refused == fabric.ranks * (fabric.ranks - 1)) return {.own = common, .common = {}, .out_of_reach = {}, .unmapped = {}};
  places.common = common;
  return places;
}

bool may_launch_early(const Settings& settings, const Fabric& fabric) { return settings.options.programmatic_launch && fabric.ranks_per_device <= 1; }

std::optional<Timings> kept_timings(const Settings& settings, const std::string& identity, const Planner& planner) {
  if (!settings.options.tuned.value_or(true) || identity.empty()) return {};
  return cached_timings(timings_identity(identity, planner));
}

PlannerOptions planner_options(const Settings& settings, const kernels::Layout& layout) {
  return {.forced = settings.options.algorithm,
          .wire = settings.options.wire,
          .invariant = settings.options.invariant,
          .sentinel_slot_bytes = layout.sentinel_bytes,
          .flagged_slot_bytes = layout.flagged_bytes,
          .copy_slot_bytes = layout.copy_bytes,
          .max_blocks = settings.options.max_blocks};
}

}  // namespace collectives
