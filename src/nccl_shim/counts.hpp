#pragma once

#include <collectives/types.hpp>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "nccl_shim/place.hpp"

namespace collectives {

class DropInRank;

/// How often each collective was asked for in this process, by size and algorithm, how long that took, and what was left to NCCL. With
/// COLLECTIVES_SUMMARY=1 the end of the process prints it, with COLLECTIVES_SUMMARY=ranks by rank. Thread-safe.
///
/// Of every call the time that its caller spent in it is taken. On a GPU, where a call has only been enqueued then, every 16th call of a
/// kind is timed there too, by a pair of events around it that is read when they have passed, and not at all in a capture. What a stream
/// waits for late peers is part of that time.
class DropInCounts {
 public:
  explicit DropInCounts(bool by_rank) : by_rank_(by_rank) {}
  /// Null unless the summary is wanted.
  static DropInCounts* if_wanted();

  /// What is counted together. Sizes are those of messages up to a power of four bytes, named by its exponent of two.
  struct Kind {
    int ranks = 0, rank = 0;  ///< 0 and 0 where ranks are not told apart
    Collective collective = Collective::all_reduce;
    int size_exponent = 0;
    std::string algorithm;
    auto operator<=>(const Kind&) const = default;
  };
  Kind kind_of(const DropInRank& rank, Collective collective, std::size_t bytes, const char* algorithm) const;

  /// The timer of this kind and device if its next call is to be timed there; `give_back` has it back.
  std::unique_ptr<StreamTimer> borrow_timer(const Kind& kind, int device);
  void give_back(const Kind& kind, int device, std::unique_ptr<StreamTimer> timer);
  void add(const Kind& kind, std::size_t bytes, double host_us);
  void add_fallback(const std::string& reason);
  /// A line for each collective that was called, and one for each size and algorithm of it; empty if nothing was.
  std::string text();

 private:
  /// Of times in microseconds.
  struct Times {
    std::uint64_t count = 0;
    double sum = 0, most = 0;
    void add(double us);
    void add(const Times& others);
    double mean() const { return count == 0 ? 0 : sum / static_cast<double>(count); }
  };
  struct Count {
    std::uint64_t calls = 0;
    std::uint64_t bytes = 0;
    Times host, device;
    std::map<int, std::unique_ptr<StreamTimer>> timers;  ///< by device; null while borrowed
    void harvest();
    std::string line(const Kind& kind) const;
  };

  const bool by_rank_;
  std::mutex mutex_;
  std::map<Kind, Count> counts_;
  std::map<std::string, std::uint64_t> fallbacks_;
};

/// One call from its beginning until `finish`, if it comes to that: one that fails is not counted.
class CountedCall {
 public:
  CountedCall(const DropInRank& rank, Collective collective, std::size_t bytes, const char* algorithm, Stream stream);
  ~CountedCall();
  CountedCall(const CountedCall&) = delete;
  CountedCall& operator=(const CountedCall&) = delete;

  /// The call's work is enqueued; on the host it is done, unless the call is of a group.
  void finish();

 private:
  DropInCounts* const counts_;
  DropInCounts::Kind kind_;
  std::size_t bytes_ = 0;
  int device_ = 0;
  Stream stream_ = nullptr;
  std::uint64_t began_ns_ = 0;
  std::unique_ptr<StreamTimer> timer_;
  bool timing_ = false;
};

}  // namespace collectives
