#pragma once

#include <collectives/communicator.hpp>
#include <memory>
#include <array>
#include <optional>
#include <vector>

#include "base/env.hpp"
#include "comm/demotion.hpp"
#include "comm/operands.hpp"
#include "comm/plan_shelf.hpp"
#include "comm/reach.hpp"
#include "comm/reserve.hpp"
#include "exec/executor.hpp"
#include "exec/timer.hpp"
#include "memory/pool.hpp"
#include "planner/planner.hpp"
#include "planner/slot_shares.hpp"
#include "topology/fabric.hpp"
#include "transport/mesh.hpp"

namespace collectives {

/// The options with the environment's values where the caller left them open.
struct Settings {
  Options options;
  PeerPolicy p2p;  ///< the mode of the options or else what the environment says
  std::string machine_file;
  std::uint32_t timeout_ms = 0;
};
Settings settings_from(const Options& options);

/// The backend that `automatic` means on this machine. Throws Error(unsupported) for CUDA where there is none, with CUDA's words.
Backend resolve_backend(Backend wanted);

/// What each of `pools` pools that a communicator makes on one device gets of the room there: the smallest pool at least, if that is left.
std::size_t share_of(const PoolRoom& room, std::size_t pools, Backend backend);

/// The most bytes that the slots of copy engines take of a pool: none unless they are forced.
std::size_t copy_room(const Settings& settings, const Fabric& fabric);

/// The layout that this rank's share of the pool's bound allows, with no more than that for copy engines.
/// Throws Error(out_of_memory) that says what the smallest pool is.
kernels::Layout layout_for(std::size_t share, Backend backend, std::size_t copy_room, SlotShares shares = {});

/// What a rank keeps of its pool: the memory itself and the word that barriers reduce.
struct RankPool {
  std::unique_ptr<Pool> pool;
  std::size_t barrier_offset = 0;
};
/// Makes and fills a rank's pool: zeros, empty slots for sentinels and for sends, the first epoch.
RankPool make_rank_pool(PoolKind kind, int device, std::size_t bound, const kernels::Layout& layout, Epoch first_epoch);
/// One for a rank on each of these devices.
std::vector<RankPool> make_rank_pools(PoolKind kind, const std::vector<int>& devices, const Settings& settings, const kernels::Layout& layout);
/// Fills one in host memory that holds zeros.
void fill_pool(std::byte* base, const kernels::Layout& layout, Epoch first_epoch);

/// The ranks' machine with the links taken out that shall not be used. `devices` are CUDA ordinals.
KnownFabric fabric_for(const std::vector<int>& devices, Backend backend, const Settings& settings);

/// Where ranks meet: in each other's pools, which lie in device memory, in host memory that all of them reach, or in both where some pairs
/// reach each other and some do not.
struct MeetingPlaces {
  PoolKind own = PoolKind::host;
  std::optional<PoolKind> common;                        ///< of a second pool a rank, if there are both
  RankMasks out_of_reach{};                              ///< of each rank: those it meets in common memory, but for what is pulled, a bit each
  RankMasks unmapped{};                                  ///< of each rank: those whose own pools it neither writes nor reads, a bit each

  /// How many of a rank's pools share one bound.
  std::size_t pools_a_bound() const { return common == own ? 2 : 1; }
};
MeetingPlaces meeting_places(const Fabric& fabric);
/// By rank: those with whom its link is not direct both ways, a bit each.
RankMasks pairs_apart(const Fabric& fabric);

/// A rank's next call must not take the place that another rank's running call on its GPU waits for.
bool may_launch_early(const Settings& settings, const Fabric& fabric);

PlannerOptions planner_options(const Settings& settings, const kernels::Layout& layout);
/// What was measured of these ranks before and kept, unless the settings say to ignore it.
std::optional<Timings> kept_timings(const Settings& settings, const std::string& identity, const Planner& planner);

/// What the ranks of one process share, alive until the last of them is gone: a rank may end while a peer still writes to it.
struct World {
  World() = default;
  World(const World&) = delete;
  ~World() {
    if (mesh) mesh->leave();
  }

  /// For ranks that will meet elsewhere.
  void forget_pools() {
    mappings.clear();
    common.clear();
    pools.clear();
  }

  DemotionBoard& board() { return reserve ? reserve->board() : *local_board; }
  /// Pools in host memory for ranks that had none. By one rank, before any goes by the plans that want them.
  void make_room();
  /// Lets `device` reach them.
  void open_room(int device);
  PoolBases room() const;

  Settings settings;
  kernels::Layout layout;
  std::vector<int> devices;  ///< the ranks', as this process counts them; -1 for one that CUDA does not show here
  std::string identity;      ///< of the ranks, where rank 0 is; empty where nothing is kept of them
  std::unique_ptr<PlanShelf> plans;
  std::unique_ptr<DemotionBoard> local_board;  ///< of ranks that are all in this process
  std::optional<SharedReserve> reserve;        ///< of others
  std::vector<RankPool> pools;   ///< of the ranks in this process
  std::vector<RankPool> common;  ///< theirs in host memory, if there are both
  std::optional<Mesh> mesh;     ///< to the ranks in others
  Letters letters;              ///< of the ranks in this process to each other
  std::vector<std::unique_ptr<PeerMapping>> mappings;
};

/// How operands are combined.
struct Reduction {
  ReduceOp op = ReduceOp::sum;
  const ScaledSum* factor = nullptr;
};

class Communicator::Impl {
 public:
  Impl(std::shared_ptr<World> world, RankPool& pool, const RankContext& context, Backend backend, std::uint32_t timeout_ms);

  void all_reduce(ConstBuffer in, Buffer out, Reduction how, Stream stream);
  void all_reduce_carried(ConstBuffer in, Buffer out, ReduceOp op, DataType carried, Stream stream);
  void all_reduce_nothing(Buffer out, ReduceOp op, Stream stream);
  void reduce_scatter(ConstBuffer in, Buffer out, const Blocks& blocks, Reduction how, Stream stream);
  void all_gather(ConstBuffer in, Buffer out, const Blocks& blocks, Stream stream);
  void broadcast(ConstBuffer in, Buffer out, int root, Stream stream);
  void reduce(ConstBuffer in, Buffer out, Reduction how, int root, Stream stream);
  void all_to_all(ConstBuffer in, Buffer out, Stream stream);
  void gather(ConstBuffer in, Buffer out, int root, Stream stream);
  void scatter(ConstBuffer in, Buffer out, int root, Stream stream);
  void exchange(std::span<const Send> sends, std::span<const Receive> receives, Stream stream);
  void barrier(Stream stream);
  TuneReport tune(const TuneOptions& options);
  /// Throws what killed this communicator, if anything.
  void expect_alive(bool look);
  /// Takes links out, each pair named both ways, for all ranks.
  void take_out(RankMasks pairs);
  /// These ranks as a communicator of their own, without the links that are out in this one.
  Communicator gather_members(std::span<const int> members, const Options& options, const RankMasks& apart);
  /// The pairs that are refused by the environment and the verdicts as they are now.
  RankMasks refused_now() const;
  /// What the next call goes by, as far as it is known.
  const Planner& planner_ahead() const;

  const int rank;
  const int size;
  const int device;
  const Backend backend;
  // Destroyed in reverse: the executor's last calls before what they write to.
  const std::shared_ptr<World> world;
  RankPool& pool;
  const std::unique_ptr<Executor> executor;
  const std::unique_ptr<Post> local_post;  ///< none where `world` has a mesh
  Post* const post;
  Demotions demotions;
  std::uint64_t replanned_at = 0;  ///< the first call that went by the plans of now

 private:
  /// Goes by the plans that begin with this rank's next call.
  void follow();
  void turn_to(const DemotionBoard::Round& round);
  /// From the next call on. `round` tells plans apart that are made anew by the same.
  void go_by(const Planner& planner, std::uint64_t round);
  /// Enqueues messages, each on its way: earlier ones of a direction may go over its link that later ones go without.
  void send_off(const Mail& mail, Stream stream);
  void turn_mail(int peer, bool sends, Stream stream);
  /// Runs `body`, in which this rank does what its peers count on: if it fails, they hear of it.
  template <typename Body>
  void take_part(Body body);
  /// The pools where this rank meets those whose links are out, ready for use.
  const PoolBases& meeting_room();
  void check(const ConstBuffer& in) const;
  void check(const Buffer& out) const;
  /// And takes a factor in host memory along.
  Factor check(const Reduction& how, DataType type) const;
  /// Plans and enqueues what was checked.
  void start(const PlanRequest& request, Call call, Stream stream);

  void tune_together(const TuneOptions& options, TuneReport& report);
  /// What the slowest rank takes for a call by this plan, where the best so far takes `best_ns`, if any does.
  std::uint64_t rehearse(const PlanRequest& request, const Plan& plan, std::uint64_t best_ns, Timer& timer);
  /// A call on the timer's memory.
  void call_in_place(const PlanRequest& request, Timer& timer);
  /// The greatest of the ranks' values, on every rank.
  std::uint64_t most_of(std::uint64_t value, Timer& timer);

  static std::uint32_t mark_of(const Planner& planner, std::uint64_t round);

  PoolBases room_;   ///< the pools in memory that all ranks reach
  bool lacks_room_;  ///< there are none yet, or not for this rank: all links were direct
  const Planner* planner_;
  std::uint32_t plans_mark_;
  const Plan* rehearsed_ = nullptr;  ///< by which the next call goes while ranks are tuned, whatever the planner says
  std::uint64_t calls_ = 0;  ///< that all ranks make, enqueued by this one
  MessageCounts messages_{};  ///< enqueued
  RankMasks turned_{};       ///< messages that go another way than at first: to whom, from whom, a bit each
  std::optional<Error> death_;
};

template <typename Body>
void Communicator::Impl::take_part(Body body) {
  // The peers are on their way to a call that this rank will not make.
  try {
    body();
  } catch (const Error& error) {
    death_ = error;
    // What a peer has done, the others learn from that peer.
    if (!executor->fault(false)) executor->abort(true);
    throw;
  }
}

}  // namespace collectives
