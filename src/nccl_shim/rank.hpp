#pragma once

#include <array>
#include <atomic>
#include <collectives/communicator.hpp>
#include <collectives/error.hpp>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>

#include "nccl_shim/config.hpp"

namespace collectives {

/// A PreMulSum's factor: its value, or where on the device it will be read.
struct DropInFactor {
  std::array<std::byte, 8> value{};
  const void* on_device = nullptr;
  DataType type = DataType::float32;
};

/// One rank of a communicator as callers of NCCL know it: served by a Communicator, or by the real library. While it is being made
/// or divided in the background it is in progress; other calls then are refused.
class DropInRank {
 public:
  DropInRank(int rank, int size, int device, DropInConfig config, std::string identity);

  // By whoever makes it, before it is settled.
  void take(Communicator communicator);
  void take(const NcclFunctions& real, NcclComm* comm);
  void place(int rank, int size, std::string identity);

  void begin() { ++pending_; }
  /// Ends what `begin` began. `failure` is kept: it is the answer to every later call.
  void settle(const std::optional<Error>& failure);

  /// Any thread may ask.
  NcclResult state();
  /// Throws what keeps this rank from taking part in anything: it is in progress, finalized, revoked or has failed.
  void expect_ready();
  /// Throws while it is being made.
  void expect_made();
  Communicator& native();
  /// The real library's communicator, or null.
  NcclComm* real_comm() const { return pending_.load(std::memory_order_acquire) == 0 ? real_comm_ : nullptr; }
  /// The same for who has made it busy itself.
  NcclComm* real_comm_now() const { return real_comm_; }
  const NcclFunctions& real() const { return *real_; }

  /// No more calls from now on. It is in progress until `flush` has seen those that are under way to their end, or failed.
  void finalize();
  void flush() noexcept;
  /// Throws what `flush` found wrong.
  void expect_flushed();
  void revoke();
  /// Ends what is under way, here and at the peers. Nothing fails.
  void abort() noexcept;
  /// Destroys or aborts the real library's communicator, if there is one.
  NcclResult end_real(bool by_abort);

  int add_operation(const DropInFactor& factor);
  void remove_operation(int op);
  DropInFactor operation(int op);

  void* add_handle();
  /// Throws Error(invalid_argument) for a handle that `add_handle` has not given.
  void remove_handle(void* handle);

  int rank() const { return rank_; }
  int size() const { return size_; }
  int device() const { return device_; }
  const DropInConfig& config() const { return config_; }
  const std::string& identity() const { return identity_; }
  bool is_revoked() const { return revoked_; }
  /// Counts the communicators made from this one, which all their ranks make in one order.
  unsigned next_generation() { return generation_++; }

 private:
  void fail(const Error& error);

  int rank_;
  int size_;
  const int device_;
  const DropInConfig config_;
  std::string identity_;
  std::optional<Communicator> native_;
  const NcclFunctions* real_ = nullptr;
  NcclComm* real_comm_ = nullptr;
  std::atomic<int> pending_{0};
  std::atomic<bool> finalized_{false};
  std::atomic<bool> flushing_{false};
  std::atomic<bool> revoked_{false};
  std::atomic<unsigned> generation_{0};
  std::atomic<bool> failed_{false};
  std::mutex mutex_;  // of the rest
  std::optional<Error> failure_;
  std::map<int, DropInFactor> operations_;
  std::set<void*> handles_;
  std::uintptr_t next_handle_ = 0x1000;
};

/// A new handle for `rank`.
NcclComm* make_handle(std::shared_ptr<DropInRank> rank);
/// Whose handle this is. Throws Error(invalid_argument) if it is null, was never one, or its communicator was destroyed.
std::shared_ptr<DropInRank> rank_of(NcclComm* handle);
/// The same, and the handle is one no more.
std::shared_ptr<DropInRank> retire(NcclComm* handle);

}  // namespace collectives
