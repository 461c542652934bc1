#pragma once

#include <collectives/communicator.hpp>
#include <memory>
#include <array>
#include <optional>
#include <vector>

#include "base/env.hpp"
#include "comm/operands.hpp"
#include "comm/reach.hpp"
#include "exec/executor.hpp"
#include "memory/pool.hpp"
#include "planner/planner.hpp"
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

/// How many slots of copy engines a pool has: none unless they are forced.
std::size_t copy_lanes(const Settings& settings, const Fabric& fabric);

/// The layout that this rank's share of the pool's bound allows, with so many slots of copy engines.
/// Throws Error(out_of_memory) that says what the smallest pool is.
kernels::Layout layout_for(std::size_t share, Backend backend, std::size_t lanes);

/// What a rank keeps of its pool: the memory itself and the word that barriers reduce.
struct RankPool {
  std::unique_ptr<Pool> pool;
  std::size_t barrier_offset = 0;
};
/// Makes and fills a rank's pool: zeros, empty slots for sentinels and for sends, the first epoch.
RankPool make_rank_pool(PoolKind kind, int device, std::size_t bound, const kernels::Layout& layout, Epoch first_epoch);

/// The ranks' machine with the links taken out that shall not be used. `devices` are CUDA ordinals.
KnownFabric fabric_for(const std::vector<int>& devices, Backend backend, const Settings& settings);

/// Where ranks meet: in each other's pools, which lie in device memory, in host memory that all of them reach, or in both where some pairs
/// reach each other and some do not.
struct MeetingPlaces {
  PoolKind own = PoolKind::host;
  std::optional<PoolKind> common;                        ///< of a second pool a rank, if there are both
  std::array<std::uint32_t, max_ranks> out_of_reach{};  ///< of each rank: those it meets in common memory alone, a bit each

  /// How many of a rank's pools share one bound.
  std::size_t pools_a_bound() const { return common == own ? 2 : 1; }
};
MeetingPlaces meeting_places(const Fabric& fabric);

PlannerOptions planner_options(const Settings& settings, const kernels::Layout& layout);

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

  std::shared_ptr<const Planner> planner;
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
  Impl(std::shared_ptr<World> world, RankPool& pool, RankContext context, Backend backend, std::uint32_t timeout_ms);

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
  /// Throws what killed this communicator, if anything.
  void expect_alive(bool look);

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

 private:
  void check(const ConstBuffer& in) const;
  void check(const Buffer& out) const;
  /// And takes a factor in host memory along.
  Factor check(const Reduction& how, DataType type) const;
  /// Plans and enqueues what was checked.
  void start(const PlanRequest& request, Call call, Stream stream);

  std::optional<Error> death_;
};

}  // namespace collectives
