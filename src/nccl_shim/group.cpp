#include "nccl_shim/group.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <thread>

#include "base/require.hpp"
#include "nccl_shim/counts.hpp"
#include "nccl_shim/place.hpp"
#include "nccl_shim/real.hpp"

namespace collectives {
namespace {

/// A device current for a scope: the caller's stays what it was.
class CurrentDevice {
 public:
  explicit CurrentDevice(int device) : before_(current_device()) { use_device(device); }
  ~CurrentDevice() {
    try {
      use_device(before_);
    } catch (...) {
      // It was current before: what keeps it from being so again will say so itself.
    }
  }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  int before_;
};

/// Runs one creation to its end and settles who waits for it. The error, if it failed.
std::optional<Error> run(DropInCreation& creation) {
  std::optional<Error> failure;
  try {
    const CurrentDevice device(creation.device);
    creation.make();
  } catch (const Error& error) {
    failure = error;
  } catch (const std::exception& error) {
    failure = Error(ErrorCode::internal, error.what());
  }
  if (failure) (void)remember_nccl_error(nccl_result_of(failure->code()), "the making of a communicator", failure->what());
  creation.make = nullptr;
  if (creation.made) creation.made->settle(failure);
  if (creation.parent) creation.parent->settle({});
  return failure;
}

/// The library moves this many messages at once. Three with every peer, there and back, are no more.
constexpr std::size_t most_messages = 96, rounds_at_once = most_messages / (2 * max_ranks);

/// Those messages whose turn with their peer is one of `rounds_at_once` from `first`.
template <typename Message>
std::vector<Message> messages_in_turn(const std::vector<Message>& messages, int Message::*peer, std::size_t first) {
  std::array<std::size_t, max_ranks> turn{};
  std::vector<Message> chosen;
  for (const Message& message : messages) {
    const std::size_t own = turn[static_cast<std::size_t>(message.*peer)]++;
    if (own >= first && own < first + rounds_at_once) chosen.push_back(message);
  }
  return chosen;
}

/// More messages than go at once go by their turn with their peer, in which sender and receiver agree: whoever waits in a later turn
/// waits for nobody who waits in an earlier one.
void exchange_in_turns(Communicator& communicator, const std::vector<Send>& sends, const std::vector<Receive>& receives, Stream stream) {
  if (sends.size() + receives.size() <= most_messages) return communicator.exchange(sends, receives, stream);
  std::size_t done = 0;
  for (std::size_t first = 0; done < sends.size() + receives.size(); first += rounds_at_once) {
    const auto out = messages_in_turn(sends, &Send::to, first);
    const auto in = messages_in_turn(receives, &Receive::from, first);
    communicator.exchange(out, in, stream);
    done += out.size() + in.size();
  }
}

/// A blocking one that failed leaves no communicator.
void withdraw(const DropInCreation& creation) {
  if (creation.handle == nullptr || *creation.handle == nullptr) return;
  (void)retire(*creation.handle);
  *creation.handle = nullptr;
}

void run_in_background(DropInCreation creation) {
  std::thread([one = std::move(creation)]() mutable { (void)run(one); }).detach();
}

}  // namespace

void await_on_host(DropInRank& rank, Stream stream) {
  if (rank.native().backend() == Backend::host) rank.native().synchronize(stream);
}

DropInGroup& DropInGroup::of_this_thread() {
  thread_local DropInGroup group;
  return group;
}

void spoil_group(NcclResult result) noexcept { DropInGroup::of_this_thread().spoil(result); }

void DropInGroup::start() {
  if (depth_++ > 0) return;
  real_ = real_nccl_if_open();
  if (real_ != nullptr) real_check(*real_, real_->group_start());
}

void DropInGroup::spoil(NcclResult result) {
  if (is_open() && spoiled_ == nccl_success) spoiled_ = result;
}

void DropInGroup::expect_one_kind(bool blocking) {
  require(!blocking_ || *blocking_ == blocking, "blocking and nonblocking communicators in one group: expected one kind");
  blocking_ = blocking;
}

void DropInGroup::close() {
  creations_.clear();
  calls_.clear();
  messages_.clear();
  spoiled_ = nccl_success;
  blocking_.reset();
  real_ = nullptr;
}

NcclResult DropInGroup::add(DropInCreation creation) {
  if (is_open()) expect_one_kind(creation.blocking);
  if (creation.made) creation.made->begin();
  if (creation.parent) creation.parent->begin();
  const bool blocking = creation.blocking;
  if (is_open()) {
    creations_.push_back(std::move(creation));
  } else if (!blocking) {
    run_in_background(std::move(creation));
  } else if (const auto failure = run(creation)) {
    withdraw(creation);
    throw *failure;
  }
  return blocking ? nccl_success : nccl_in_progress;
}

void DropInGroup::add(DropInCall call) {
  if (!is_open()) return issue(call);
  expect_one_kind(call.rank->config().blocking);
  calls_.push_back(std::move(call));
}

DropInGroup::Messages& DropInGroup::messages_of(const std::shared_ptr<DropInRank>& rank, Stream stream) {
  expect_one_kind(rank->config().blocking);
  auto found = std::find_if(messages_.begin(), messages_.end(), [&](const Messages& each) { return each.rank == rank; });
  if (found == messages_.end()) found = messages_.insert(found, Messages{rank, {}, {}, {}});
  if (std::find(found->streams.begin(), found->streams.end(), stream) == found->streams.end()) found->streams.push_back(stream);
  return *found;
}

void DropInGroup::add(const std::shared_ptr<DropInRank>& rank, const Send& send, Stream stream) {
  if (!is_open()) return issue(Messages{rank, {send}, {}, {stream}});
  messages_of(rank, stream).sends.push_back(send);
}

void DropInGroup::add(const std::shared_ptr<DropInRank>& rank, const Receive& receive, Stream stream) {
  if (!is_open()) return issue(Messages{rank, {}, {receive}, {stream}});
  messages_of(rank, stream).receives.push_back(receive);
}

void DropInGroup::issue(const DropInCall& call) {
  Communicator& communicator = call.rank->native();
  const char* algorithm = DropInCounts::if_wanted() != nullptr ? name_of(communicator.plan_for(call.request).choice.algorithm) : "";
  CountedCall counted(*call.rank, call.request.collective, call.bytes, algorithm, call.stream);
  call.issue(communicator);
  if (!of_this_thread().is_open()) await_on_host(*call.rank, call.stream);
  counted.finish();
}

void DropInGroup::issue(const Messages& messages) {
  const Stream stream = messages.streams.front();
  const std::vector<Stream> others(messages.streams.begin() + 1, messages.streams.end());
  Communicator& communicator = messages.rank->native();
  std::size_t bytes = 0;
  for (const Send& send : messages.sends) bytes += send.buffer.count * size_of(send.buffer.type);
  CountedCall counted(*messages.rank, Collective::exchange, bytes, "sends", stream);
  join_streams(communicator.device(), stream, others);
  exchange_in_turns(communicator, messages.sends, messages.receives, stream);
  fork_streams(communicator.device(), stream, others);
  if (!of_this_thread().is_open()) await_on_host(*messages.rank, stream);
  counted.finish();
}

NcclResult DropInGroup::create_all() {
  if (creations_.empty()) return nccl_success;
  if (!creations_.front().blocking) {
    for (auto& creation : creations_) run_in_background(std::move(creation));
    return nccl_in_progress;
  }
  std::vector<std::optional<Error>> failures(creations_.size());
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < creations_.size(); ++i) threads.emplace_back([&, i] { failures[i] = run(creations_[i]); });
  for (auto& thread : threads) thread.join();
  NcclResult result = nccl_success;
  for (std::size_t i = 0; i < creations_.size(); ++i) {
    if (!failures[i]) continue;
    withdraw(creations_[i]);
    if (result == nccl_success) result = remember_nccl_error(nccl_result_of(failures[i]->code()), "ncclGroupEnd", failures[i]->what());
  }
  return result;
}

NcclResult DropInGroup::issue_all() {
  NcclResult result = nccl_success;
  // One that fails must not keep the others from what their peers wait for.
  const auto attempt = [&](auto&& body) {
    const NcclResult own = nccl_guard("ncclGroupEnd", [&] {
      body();
      return nccl_success;
    });
    if (result == nccl_success) result = own;
  };
  for (const DropInCall& call : calls_) attempt([&] { issue(call); });
  for (const Messages& messages : messages_) attempt([&] { issue(messages); });
  std::vector<const DropInRank*> awaited;
  const auto await = [&](const std::shared_ptr<DropInRank>& rank, Stream stream) {
    if (std::find(awaited.begin(), awaited.end(), rank.get()) != awaited.end()) return;
    awaited.push_back(rank.get());
    attempt([&] { await_on_host(*rank, stream); });
  };
  for (const DropInCall& call : calls_) await(call.rank, call.stream);
  for (const Messages& messages : messages_) await(messages.rank, messages.streams.front());
  return result;
}

NcclResult DropInGroup::end() {
  require(is_open(), "there is no group to end: expected an ncclGroupStart for each ncclGroupEnd", ErrorCode::invalid_usage);
  if (depth_ > 1) {
    --depth_;
    return nccl_success;
  }
  const NcclResult real = real_ != nullptr ? real_->group_end() : nccl_success;
  NcclResult result = spoiled_;
  if (result == nccl_success) {
    result = create_all();
    if (const NcclResult issued = issue_all(); issued != nccl_success) result = issued;
  } else {
    // Nothing of a spoiled group is done: what was to be made is not.
    const Error never(ErrorCode::invalid_usage, "another call of its group failed");
    for (auto& creation : creations_) {
      if (creation.made) creation.made->settle(never);
      if (creation.parent) creation.parent->settle({});
      if (creation.blocking) withdraw(creation);
    }
  }
  depth_ = 0;
  close();
  return result != nccl_success ? result : real;
}

double DropInGroup::simulate_end_us() {
  require(is_open(), "there is no group to end: expected an ncclGroupStart before", ErrorCode::invalid_usage);
  if (depth_ > 1) {
    --depth_;
    return 0;
  }
  std::map<const DropInRank*, double> each;
  for (const DropInCall& call : calls_) each[call.rank.get()] += call.rank->native().plan_for(call.request).predicted_us;
  for (const Messages& messages : messages_)
    each[messages.rank.get()] += messages.rank->native().plan_for({.collective = Collective::exchange, .count = 1, .type = DataType::uint8}).predicted_us;
  double slowest = 0;
  for (const auto& [rank, us] : each) slowest = std::max(slowest, us);
  spoiled_ = nccl_invalid_usage;
  (void)end();
  return slowest;
}

}  // namespace collectives
