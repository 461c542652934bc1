#include "nccl_shim/rank.hpp"

#include <fmt/format.h>

#include <deque>
#include <utility>

#include "base/require.hpp"
#include "nccl_shim/outcome.hpp"
#include "nccl_shim/real.hpp"

namespace collectives {

/// What a caller holds. Never freed, so that a handle whose communicator was destroyed can be told from a live one.
struct NcclComm {
  static constexpr std::uint64_t live = 0x6c6c6f63636e7261u;
  std::atomic<std::uint64_t> magic{live};
  std::mutex mutex;
  std::shared_ptr<DropInRank> rank;
};

namespace {

struct Handles {
  std::mutex mutex;
  std::deque<NcclComm> all;
};

Handles& handles() {
  static auto* all = new Handles;
  return *all;
}

[[noreturn]] void refuse_handle() {
  throw Error(ErrorCode::invalid_argument, "this is no communicator, or it was destroyed");
}

}  // namespace

NcclComm* make_handle(std::shared_ptr<DropInRank> rank) {
  const std::lock_guard lock(handles().mutex);
  NcclComm& made = handles().all.emplace_back();
  made.rank = std::move(rank);
  return &made;
}

std::shared_ptr<DropInRank> rank_of(NcclComm* handle) {
  require(handle != nullptr, "the communicator is null");
  if (handle->magic.load() != NcclComm::live) refuse_handle();
  const std::lock_guard lock(handle->mutex);
  if (!handle->rank) refuse_handle();
  return handle->rank;
}

std::shared_ptr<DropInRank> retire(NcclComm* handle) {
  require(handle != nullptr, "the communicator is null");
  if (handle->magic.load() != NcclComm::live) refuse_handle();
  const std::lock_guard lock(handle->mutex);
  if (!handle->rank) refuse_handle();
  handle->magic.store(0);
  return std::exchange(handle->rank, nullptr);
}

DropInRank::DropInRank(int rank, int size, int device, DropInConfig config, std::string identity)
    : rank_(rank), size_(size), device_(device), config_(std::move(config)), identity_(std::move(identity)) {}

void DropInRank::take(Communicator communicator) {
  rank_ = communicator.rank();
  size_ = communicator.size();
  native_.emplace(std::move(communicator));
}

void DropInRank::take(const NcclFunctions& real, NcclComm* comm) {
  real_ = &real;
  real_comm_ = comm;
}

void DropInRank::place(int rank, int size, std::string identity) {
  rank_ = rank;
  size_ = size;
  identity_ = std::move(identity);
}

void DropInRank::fail(const Error& error) {
  const std::lock_guard lock(mutex_);
  if (!failure_) failure_ = error;
  failed_ = true;
}

void DropInRank::settle(const std::optional<Error>& failure) {
  if (failure) fail(*failure);
  pending_.fetch_sub(1, std::memory_order_release);
}

NcclResult DropInRank::state() {
  if (pending_.load(std::memory_order_acquire) != 0 || flushing_) return nccl_in_progress;
  if (revoked_) return nccl_success;
  if (failed_) {
    const std::lock_guard lock(mutex_);
    return nccl_result_of(failure_->code());
  }
  if (real_comm_ != nullptr) {
    NcclResult error = nccl_success;
    const NcclResult result = required(real_->comm_get_async_error, "ncclCommGetAsyncError")(real_comm_, &error);
    return result == nccl_success ? error : result;
  }
  try {
    if (native_) native_->check();
    return nccl_success;
  } catch (const Error& error) {
    fail(error);
    return remember_nccl_error(nccl_result_of(error.code()), "ncclCommGetAsyncError", error.what());
  }
}

void DropInRank::expect_made() {
  require(pending_.load(std::memory_order_acquire) == 0, "what was asked of this communicator before has not ended: expected ncclCommGetAsyncError to give ncclSuccess first");
}

void DropInRank::expect_ready() {
  expect_made();
  expect_flushed();
  require(!finalized_, "this communicator was finalized: expected ncclCommDestroy or ncclCommAbort");
  require(!revoked_, "this communicator was revoked: expected ncclCommShrink, ncclCommDestroy or ncclCommAbort", ErrorCode::invalid_usage);
}

Communicator& DropInRank::native() {
  ensure(native_.has_value(), "a communicator that is ready was made");
  return *native_;
}

void DropInRank::finalize() {
  expect_ready();
  finalized_ = flushing_ = true;
}

void DropInRank::flush() noexcept {
  try {
    native().finish();
  } catch (const Error& error) {
    fail(error);
    (void)remember_nccl_error(nccl_result_of(error.code()), "ncclCommFinalize", error.what());
  } catch (const std::exception& error) {
    fail(Error(ErrorCode::internal, error.what()));
  }
  flushing_ = false;
}

void DropInRank::expect_flushed() {
  if (!failed_) return;
  const std::lock_guard lock(mutex_);
  throw *failure_;
}

void DropInRank::revoke() {
  abort();
  revoked_ = true;
}

void DropInRank::abort() noexcept {
  try {
    if (pending_.load(std::memory_order_acquire) == 0 && native_) native_->abort();
  } catch (...) {
    // It is given up either way.
  }
}

NcclResult DropInRank::end_real(bool by_abort) {
  NcclComm* comm = pending_.load(std::memory_order_acquire) == 0 ? std::exchange(real_comm_, nullptr) : nullptr;
  if (comm == nullptr) return nccl_success;
  return by_abort ? required(real_->comm_abort, "ncclCommAbort")(comm) : required(real_->comm_destroy, "ncclCommDestroy")(comm);
}

int DropInRank::add_operation(const DropInFactor& factor) {
  // One number for each that the process ever makes: another communicator's is told from this one's.
  static std::atomic<int> next{nccl_op_count};
  const int op = next++;
  require(op > 0, "more reduction operations were made than there are numbers", ErrorCode::invalid_usage);
  const std::lock_guard lock(mutex_);
  operations_[op] = factor;
  return op;
}

void DropInRank::remove_operation(int op) {
  const std::lock_guard lock(mutex_);
  require(operations_.erase(op) == 1, [&] { return fmt::format("{} is no operation that was made for this communicator", op); });
}

DropInFactor DropInRank::operation(int op) {
  const std::lock_guard lock(mutex_);
  const auto found = operations_.find(op);
  require(found != operations_.end(), [&] { return fmt::format("{} is no reduction operation: expected 0 to {}, or one made for this communicator", op, nccl_op_count - 1); });
  return found->second;
}

void* DropInRank::add_handle() {
  const std::lock_guard lock(mutex_);
  next_handle_ += 16;
  void* handle = reinterpret_cast<void*>(next_handle_);
  handles_.insert(handle);
  return handle;
}

void DropInRank::remove_handle(void* handle) {
  const std::lock_guard lock(mutex_);
  require(handles_.erase(handle) == 1, "this is no handle of this communicator, or it was given back");
}

}  // namespace collectives
