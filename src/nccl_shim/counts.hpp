#pragma once

#include <array>
#include <atomic>
#include <collectives/types.hpp>
#include <cstdint>
#include <string>

namespace collectives {

/// How often each collective was asked for in this process, and how many bytes of messages. With COLLECTIVES_SUMMARY=1 the end of
/// the process prints it.
class DropInCounts {
 public:
  static DropInCounts& of_this_process();

  void add(Collective collective, std::size_t bytes);
  /// A communicator that the real library serves, and why.
  void add_fallback();
  /// A line for each collective that was called; empty if none was.
  std::string text() const;

 private:
  struct Count {
    std::atomic<std::uint64_t> calls{0};
    std::atomic<std::uint64_t> bytes{0};
  };
  std::array<Count, collective_count> counts_;
  std::atomic<std::uint64_t> fallbacks_{0};
};

}  // namespace collectives
