#pragma once

#include <collectives/communicator.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "nccl_shim/outcome.hpp"
#include "nccl_shim/rank.hpp"

namespace collectives {

/// A communicator that is to be made: `make` runs in a thread of its own where several are made at once.
struct DropInCreation {
  std::shared_ptr<DropInRank> made;    ///< null: this rank only takes part
  std::shared_ptr<DropInRank> parent;  ///< null: it has none
  NcclComm** handle = nullptr;         ///< where its handle is; set to null if a blocking one fails
  int device = 0;                      ///< current where it is made
  bool blocking = true;
  std::function<void()> make;
};

/// A collective as it will be issued.
struct DropInCall {
  std::shared_ptr<DropInRank> rank;
  PlanRequest request;    ///< for its price
  std::size_t bytes = 0;  ///< of the whole message
  Stream stream = nullptr;
  std::function<void(Communicator&)> issue;
};

/// What the calling thread has asked for since its outermost ncclGroupStart. At the end communicators are made, then collectives are
/// issued in the order they were asked for, then each communicator's sends and receives as one exchange.
class DropInGroup {
 public:
  static DropInGroup& of_this_thread();

  bool is_open() const { return depth_ > 0; }
  void start();
  NcclResult end();
  /// Ends the group without doing anything of it; the time that it would have taken, by the plans.
  double simulate_end_us();
  void spoil(NcclResult result);

  // Outside a group these are done at once.
  NcclResult add(DropInCreation creation);
  void add(DropInCall call);
  void add(const std::shared_ptr<DropInRank>& rank, const Send& send, Stream stream);
  void add(const std::shared_ptr<DropInRank>& rank, const Receive& receive, Stream stream);

 private:
  /// One communicator's sends and receives.
  struct Messages {
    std::shared_ptr<DropInRank> rank;
    std::vector<Send> sends;
    std::vector<Receive> receives;
    std::vector<Stream> streams;
  };

  Messages& messages_of(const std::shared_ptr<DropInRank>& rank, Stream stream);
  void expect_one_kind(bool blocking);
  void close();
  NcclResult create_all();
  NcclResult issue_all();
  static void issue(const DropInCall& call);
  static void issue(const Messages& messages);

  int depth_ = 0;
  NcclResult spoiled_ = nccl_success;
  std::optional<bool> blocking_;
  const NcclFunctions* real_ = nullptr;  ///< whose group was started with this one
  std::vector<DropInCreation> creations_;
  std::vector<DropInCall> calls_;
  std::vector<Messages> messages_;
};

/// On the host there are no streams: what was asked for outside a group is done when the call returns.
void await_on_host(DropInRank& rank, Stream stream);

}  // namespace collectives
