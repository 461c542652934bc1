#pragma once

#include <collectives/communicator.hpp>
#include <collectives/plan.hpp>
#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "exec/mail.hpp"
#include "kernels/control.hpp"
#include "planner/program.hpp"

namespace collectives {

/// A block of a call as one rank sees it: what it has of it and where it wants it. Counts are elements.
struct Part {
  const void* in = nullptr;
  void* out = nullptr;
  std::size_t in_count = 0;
  std::size_t out_count = 0;
};

/// What a rank's operand is multiplied by before it is combined.
struct Factor {
  enum Given : std::uint8_t { none, by_value, at_address };
  Given given = none;
  std::uint64_t bits = 0;         ///< of one element of the call's type
  const void* address = nullptr;  ///< of one
};

/// One call as a rank asked for it: a message that every chunk is cut from, or a part for each rank.
struct Call {
  const void* in = nullptr;
  void* out = nullptr;
  std::size_t count = 0;
  DataType type = DataType::float32;  ///< what travels
  ReduceOp op = ReduceOp::sum;
  bool carried = false;  ///< the buffers hold float32, whatever travels
  bool absent = false;   ///< this rank has no operand: `out` is the input, and filled with what the operation leaves as it is
  Factor factor{};
  Collective collective = Collective::all_reduce;
  int root = 0;
  std::uint32_t plans = 0;  ///< a mark of what the ranks plan by: the same on every rank
  /// Rank r's block, as long here as there; in an all-to-all, what goes to rank r and what comes from it.
  std::array<Part, max_ranks> parts{};
};

/// What a rank's calls work with, fixed when the communicator is made.
struct RankContext {
  int rank = 0;
  int ranks = 0;
  int device = -1;
  bool shares_device = false;  ///< with another rank of this process
  std::uint64_t timeout_ns = 0;
  Epoch first_epoch = 0;
  kernels::Layout layout;
  int mail_lanes = 1;                  ///< of each direction of a pair, at most; the same on every rank
  int mail_blocks = 1;                 ///< that can run at once; each rank's own business
  std::optional<Wire> mail_wire{};     ///< forced for sends and receives, where `sentinel` means escaped; the same on every rank
  bool early_launch = false;           ///< programmatic dependent launch of small calls where the kernels can; each rank's own business
  bool pools_in_device_memory = false;
  std::array<std::byte*, max_ranks> pools{};   ///< as this rank addresses them; null for those it neither writes nor reads
  std::array<std::byte*, max_ranks> common{};  ///< pools in host memory that all reach; the same as `pools` where nobody is out of reach
  std::uint32_t out_of_reach = 0;              ///< ranks that meet this one in common memory, but for what is pulled, a bit each
  MailWays mail_ways{};                        ///< the executor fills it in
  /// A rank whose process has gone without a word, if any; called now and then while waiting, as is the next.
  std::function<std::optional<int>()> lost_peer = [] { return std::nullopt; };
  /// The ranks that have left in good order, a bit each: calls that they made can still be finished.
  std::function<std::uint32_t()> left_peers = [] { return 0u; };
};

/// Runs one rank's calls in the order they are enqueued. Enqueuing is for one thread at a time; `abort` and `fault` are for any.
class Executor {
 public:
  virtual ~Executor() = default;

  /// Throws Error(invalid_argument) for a buffer this backend cannot work on.
  virtual void check_buffer(const void* data, std::size_t bytes, const char* name) const = 0;
  /// `program` must outlive this executor, which knows it by its address.
  virtual void enqueue(const Call& call, const Plan& plan, const Program& program, Stream stream) = 0;
  virtual void enqueue(const Mail& mail, Stream stream) = 0;
  /// Waits for what is enqueued on `stream`, watching for lost peers.
  virtual void synchronize(Stream stream) = 0;
  /// Waits for every call that was enqueued, in captures apart, watching for lost peers.
  virtual void finish() = 0;
  /// From the next call on, but for messages: who is out of reach of this rank, and where all ranks meet. What was enqueued before stays as
  /// it is. New memory is as pools are before the first call. On every rank at the same call.
  virtual void reroute(std::uint32_t out_of_reach, const std::array<std::byte*, max_ranks>& common) = 0;
  /// From the next message to `peer` or from it on, which is `stream`'s: it goes through these pools. At both ends at the same message.
  virtual void reroute_mail(int peer, bool sends, const std::array<std::byte*, max_ranks>& common, Stream stream) = 0;
  /// Makes running calls leave soon; tells the peers if `tell`.
  virtual void abort(bool tell) = 0;

  /// The error that killed this rank, if any: always the first one found. Asks `lost_peer` once if `look`.
  std::optional<Error> fault(bool look);

 protected:
  Executor(RankContext context) : context_(std::move(context)) {
    context_.mail_ways = {.sends = context_.out_of_reach, .receives = context_.out_of_reach, .common = context_.common};
  }
  /// True, and the running calls told to leave, if a peer has gone.
  bool abandon_if_lost();
  virtual kernels::FaultRecord& record() = 0;

  /// Change the context. The latter says whether this rank sends to the peer in other memory since.
  void turn_calls_to(std::uint32_t out_of_reach, const std::array<std::byte*, max_ranks>& common);
  bool turn_mail_to(int peer, bool sends, const std::array<std::byte*, max_ranks>& common);
  /// The words in which the peers hear of a failure, wherever they listen: in the memory of now, and in that of calls before it.
  std::vector<Mark*> ears() const;

  RankContext context_;  ///< changed by the thread that enqueues alone
  std::atomic<int> lost_{-1};

 private:
  std::optional<Error> find_fault();

  mutable std::mutex ears_mutex_;
  std::array<std::byte*, max_ranks> former_common_{};
  std::mutex fault_mutex_;
  std::optional<Error> first_fault_;
};

/// Ranks on GPUs: a kernel a call. `pools` are device addresses, or pinned host memory.
std::unique_ptr<Executor> make_cuda_executor(RankContext context);
/// Ranks on CPUs: a thread that runs this rank's calls one after the other.
std::unique_ptr<Executor> make_host_executor(RankContext context);

}  // namespace collectives
