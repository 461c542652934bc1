#pragma once

#include <collectives/types.hpp>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <tuple>

namespace collectives {

/// How often each collective was asked for in this process, by size and algorithm, and what was left to NCCL. With
/// COLLECTIVES_SUMMARY=1 the end of the process prints it.
class DropInCounts {
 public:
  /// Null unless the summary is wanted.
  static DropInCounts* if_wanted();

  void add(Collective collective, std::size_t bytes, const char* algorithm);
  void add_fallback(const std::string& reason);
  /// A line for each collective that was called, and one for each size and algorithm of it; empty if nothing was.
  std::string text();

 private:
  struct Count {
    std::uint64_t calls = 0;
    std::uint64_t bytes = 0;
  };
  /// Sizes are those of messages up to a power of four bytes, named by its exponent of two.
  using Key = std::tuple<Collective, int, std::string>;

  std::mutex mutex_;
  std::map<Key, Count> counts_;
  std::map<std::string, std::uint64_t> fallbacks_;
};

}  // namespace collectives
