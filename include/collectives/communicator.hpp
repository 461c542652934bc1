#pragma once

#include <array>
#include <collectives/error.hpp>
#include <collectives/plan.hpp>
#include <collectives/tune.hpp>
#include <collectives/types.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace collectives {

inline constexpr int max_ranks = 16;

/// Names one communicator to the processes that will form it. Made by one of them, carried to the others by any means.
struct UniqueId {
  std::array<char, 128> bytes{};
};

/// Makes the private directory where the ranks will meet. Any process of this user on this machine may call it, if it lives until the
/// first rank has come: at its end the directories of ids that nobody has used are removed.
COLLECTIVES_EXPORT UniqueId make_unique_id();

struct Options {
  Backend backend = Backend::automatic;     ///< automatic: CUDA if there is a GPU, else host
  std::optional<std::size_t> pool_bytes;    ///< the pool's upper bound; beats COLLECTIVES_POOL_BYTES
  std::optional<AlgorithmChoice> algorithm; ///< force one; beats COLLECTIVES_ALGORITHM
  std::optional<Wire> wire;                 ///< force `sentinel` where the type allows it, or `flagged`; for sends and receives `sentinel` is the wire without flags
  bool invariant = false;                   ///< direct algorithms only, so that no bit depends on the message size
  std::optional<std::uint32_t> timeout_ms;  ///< beats COLLECTIVES_TIMEOUT_MS
  std::optional<PeerMode> mode;             ///< beats COLLECTIVES_P2P; p2p throws Error(unsupported) that names the pairs without a link
  std::vector<std::pair<int, int>> refused; ///< ranks that shall not reach each other directly, beside COLLECTIVES_P2P where no mode is given; rank 0's count
  bool prove_links = true;                  ///< move data over links that no verification has proved, and avoid those that fail
  std::optional<bool> tuned;                ///< plan by what `tune` measured of the same ranks before, if that was kept; beats COLLECTIVES_TUNED; rank 0's counts
  int max_blocks = 0;                       ///< the most thread blocks a call may use; 0: the planner's choice
  /// Programmatic dependent launch: a small call's kernel starts while the one before it in the stream ends, and lets the one behind it start
  /// early if that was launched so too, which must then wait with cudaGridDependencySynchronize before it touches memory. On GPUs
  /// of compute capability 9.0 and later that no two ranks share; COLLECTIVES_PROGRAMMATIC_LAUNCH=1 asks for it too.
  bool programmatic_launch = false;
  std::uint32_t first_epoch = 0;            ///< where the call counter starts; tests start it just before it wraps
};

/// Of one rank's pool. Bytes.
struct PoolStatistics {
  std::size_t reserved = 0;    ///< address space: the upper bound
  std::size_t committed = 0;   ///< memory taken from the device
  std::size_t in_use = 0;
  std::size_t high_water = 0;  ///< of in_use
  std::size_t allocations = 0;
  std::size_t failures = 0;
};

/// What one rank sends to another in an exchange, and what it receives. Their bytes must be as many; types are each rank's own.
struct Send {
  ConstBuffer buffer;
  int to = 0;
};
struct Receive {
  Buffer buffer;
  int from = 0;
};

/// One rank of a group of 1 to 16 that works together. Not for concurrent use: one thread at a time, and one order of calls, the same
/// on every rank. Calls on different streams come out in the order they were made. Two CUDA graphs that replay at the same
/// time need two communicators.
class COLLECTIVES_EXPORT Communicator {
 public:
  /// All ranks in this process, in the order of `devices` (CUDA ordinals; on the host backend only their number counts). A
  /// device may be named more than once: its ranks share it, and each needs a stream of its own, not the default one. One thread may
  /// drive all ranks, one call after the other.
  static std::vector<Communicator> create_local(const std::vector<int>& devices, const Options& options = {});

  /// This process's rank of `size`. Collective: returns when all ranks have come, or throws Error(timeout) naming those who
  /// have not. On CUDA it uses the calling thread's current device.
  static Communicator create(const UniqueId& id, int rank, int size, const Options& options = {});

  /// Those ranks that name the same color, in the order of their keys and then of their ranks, as a communicator of their own with
  /// pools of its own; none for a negative color. Collective and blocking, beside whatever is enqueued: ranks of one process call
  /// from a thread each. The backend and the devices are this communicator's. Throws what `create` throws, and Error(peer_lost).
  std::optional<Communicator> split(int color, int key, const Options& options = {});

  /// The same of these ranks in this order, which alone call; each names the same. What the others do does not matter.
  Communicator subgroup(std::span<const int> members, const Options& options = {});

  /// Makes this communicator anew: with these options, COLLECTIVES_P2P and the other variables as they stand now, and what has been
  /// proved of the links since. For a link that must not be used any more. Collective and blocking like `split`; what was enqueued
  /// before ends as it began. Graphs that were captured before must not be replayed.
  void renew(const Options& options = {});

  /// Takes the link between two ranks out, both ways, for all ranks: from the next collective call on that no rank has begun, they plan
  /// without it, and these two meet in host memory; so do their messages, from the first on that neither has asked for. Any rank may ask,
  /// alone: it waits for no other, and nobody has to do anything. At that call every rank plans anew on the host. Between GPUs that all
  /// reached each other, the first request also fills and pins a pool a rank in host memory: a thread that drives several ranks asks when
  /// it has made the same calls on all of them. What was enqueued before ends as it began. Graphs that were captured before still give right
  /// results, over the link: capture them anew to be without it. Ranks must capture the same calls. A pair whose link is out already is
  /// left alone; a link comes back by `renew` alone.
  /// Throws Error(invalid_argument) for ranks that are not two of this communicator's, Error(unsupported) in mode p2p or where copy engines
  /// are forced, Error(out_of_memory) where there is no room in host memory, Error(invalid_usage) if a rank has made no call for 16 requests:
  /// then nothing has changed.
  void demote(int from, int to);

  /// The same of all pairs that COLLECTIVES_P2P, as this process has it now, or a verification since says not to use. Throws the same, and
  /// Error(invalid_argument) for a value that is not allowed.
  void demote_refused();

  /// Measures what the algorithms take on these ranks, where the model says that they may be the fastest, and plans by that from the next
  /// call on; communicators that are made on the same ranks in the next month do so too. What was enqueued before ends as it began, and
  /// graphs that were captured before keep their plans. Collective and blocking like `split`: every rank calls with the same options,
  /// while the machine does nothing else. Takes as long as the options say, about, and as much memory as the largest size.
  /// Throws Error(invalid_argument) for options that cannot be tried, Error(unsupported) for ranks that share a GPU: then nothing was enqueued; else
  /// what calls throw.
  TuneReport tune(const TuneOptions& options = {});

  /// The first call that went by the plans in force, of those calls that all ranks make, from 1; 0 while they are those of the beginning.
  std::uint64_t replanned_at() const;

  Communicator(Communicator&&) noexcept;
  Communicator& operator=(Communicator&&) noexcept;
  /// Waits for this rank's calls that are under way, at most until the deadline. Needs no peer.
  ~Communicator();

  int rank() const;
  int size() const;
  int device() const;  ///< CUDA ordinal; -1 on the host backend
  Backend backend() const;

  /// Enqueues out = reduction of every rank's `in` on `stream` and returns. `in` and `out` may be the same buffer, else must
  /// not overlap. Collective: every rank makes the same calls in the same order. On the host backend the buffers must live
  /// until `synchronize`. Captured in a CUDA graph like any kernel. A count of 0 does nothing.
  /// Throws Error(invalid_argument) before anything is enqueued, and the error that killed it if the communicator is dead.
  void all_reduce(ConstBuffer in, Buffer out, ReduceOp op, Stream stream = nullptr);

  /// An all_reduce of float32 whose operands travel as `carried`, float16 or bfloat16: half the bytes. Every operand is rounded to
  /// it, their sum in fp32 once more: the result is what an all_reduce of the rounded operands gives, widened.
  void all_reduce(ConstBuffer in, Buffer out, ReduceOp op, DataType carried, Stream stream = nullptr);

  /// Every rank gives a factor, its own.
  void all_reduce(ConstBuffer in, Buffer out, const ScaledSum& sum, Stream stream = nullptr);

  /// This rank's part in an all_reduce to which it contributes nothing: the others call all_reduce. `out` gets their result; an
  /// average still divides by the number of ranks. If none contributes, a sum is -0 and a minimum the type's greatest value.
  void all_reduce_nothing(Buffer out, ReduceOp op, Stream stream = nullptr);

  // The collectives below keep all_reduce's rules: every rank makes the same calls in the same order, buffers are apart or in
  // place as said, any count and any element-aligned address will do, a count of 0 does nothing, a wrong argument is thrown
  // before anything is enqueued. Counts are elements. What is only moved arrives bit for bit; what is reduced has the bits of an
  // all-reduce by a direct algorithm, unless the plan is a ring or a tree.

  /// Rank r gets block r of the reduction of every rank's `in`, which has a block of out.count elements for each rank. In place:
  /// `out` is this rank's block of `in`.
  void reduce_scatter(ConstBuffer in, Buffer out, ReduceOp op, Stream stream = nullptr);
  /// Block r has counts[r] elements, the same counts on every rank.
  void reduce_scatter(ConstBuffer in, Buffer out, std::span<const std::size_t> counts, ReduceOp op, Stream stream = nullptr);

  void reduce_scatter(ConstBuffer in, Buffer out, const ScaledSum& sum, Stream stream = nullptr);

  /// Every rank gets all ranks' `in`, one behind the other: `out` has a block of in.count elements for each. In place: `in` is
  /// this rank's block of `out`.
  void all_gather(ConstBuffer in, Buffer out, Stream stream = nullptr);
  /// Rank r brings counts[r] elements, the same counts on every rank.
  void all_gather(ConstBuffer in, Buffer out, std::span<const std::size_t> counts, Stream stream = nullptr);

  /// Every rank gets the root's `in`, which is looked at on the root only. In place: `in` is `out`.
  void broadcast(ConstBuffer in, Buffer out, int root, Stream stream = nullptr);

  /// The root gets the reduction of every rank's `in`; `out` is looked at on the root only. In place: `in` is `out`.
  void reduce(ConstBuffer in, Buffer out, ReduceOp op, int root, Stream stream = nullptr);
  void reduce(ConstBuffer in, Buffer out, const ScaledSum& sum, int root, Stream stream = nullptr);

  /// Block r of `out` is block rank() of rank r's `in`: both have equal blocks, one for each rank. Not in place.
  void all_to_all(ConstBuffer in, Buffer out, Stream stream = nullptr);

  /// The root gets all ranks' `in`, one behind the other; `out` is looked at on the root only. In place: the root's `in` is its
  /// block of `out`.
  void gather(ConstBuffer in, Buffer out, int root, Stream stream = nullptr);

  /// Rank r gets block r of the root's `in`, which is looked at on the root only. In place: the root's `out` is its block of `in`.
  void scatter(ConstBuffer in, Buffer out, int root, Stream stream = nullptr);

  /// Any pattern of sends and receives at once, those of one call side by side: none waits for another, but for those with the same
  /// peer, which come in their order. A rank that has nothing to move need not call, and other calls may lie between what one rank
  /// sends and the other receives. What is sent must be received in as many bytes, or the receiver fails with a mismatch, of which
  /// the sender, who may have finished, hears in its next call; what has no bytes need not be received. This rank itself may be a
  /// peer: then both are in one call. Throws Error(invalid_argument) for more than 96 messages.
  void exchange(std::span<const Send> sends, std::span<const Receive> receives, Stream stream = nullptr);

  /// Enqueues a point that no rank's stream passes before every rank's has reached it.
  void barrier(Stream stream = nullptr);

  /// Waits until everything enqueued on `stream` is done, watching the peers meanwhile, and throws what went wrong.
  void synchronize(Stream stream = nullptr);

  /// The same of every call of this rank that was enqueued outside graphs, on whatever stream.
  void finish();

  /// Throws the error that killed the communicator, if any; looks at the peers once. May be called from any thread.
  void check();

  /// Makes every call that is under way return soon on this rank, and tells the peers. May be called from any thread.
  void abort();

  PoolStatistics pool_statistics() const;

  /// What a call will do, the same on every rank.
  Plan plan_for(const PlanRequest& request) const;
  PlanReport explain(const PlanRequest& request) const;
  /// The same of an all-reduce.
  Plan plan_for(std::size_t count, DataType type, ReduceOp op) const;
  PlanReport explain(std::size_t count, DataType type, ReduceOp op) const;

 private:
  class Impl;
  explicit Communicator(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace collectives
