#pragma once

#include <collectives/communicator.hpp>
#include <cstddef>
#include <map>

namespace collectives {

/// Hands out parts of a range of bytes, first fit, so that what is in use stays near the front. It knows offsets alone and
/// touches no memory. Not thread-safe.
class Arena {
 public:
  static constexpr std::size_t alignment = 256;

  explicit Arena(std::size_t bytes);

  /// The offset of `bytes` free bytes, a multiple of 256; no two live allocations share one, even of 0 bytes.
  /// Throws Error(out_of_memory) naming what is free.
  std::size_t allocate(std::size_t bytes);

  /// Gives back what `allocate` gave; free neighbours become one. Throws Error(invalid_argument) for any other offset.
  void release(std::size_t offset);

  /// Bytes that the allocation at `offset` takes, its padding included.
  std::size_t size_of(std::size_t offset) const;

  std::size_t bytes() const { return bytes_; }
  std::size_t largest_free() const;

  /// `in_use` counts padding. `allocations` and `failures` count calls since the beginning. `reserved` and `committed` are the
  /// whole range: who owns the memory knows better.
  PoolStatistics statistics() const;

  /// Turns the newest allocation into a failure: there was room for it, but no memory.
  void undo(std::size_t offset);

 private:
  std::size_t bytes_;
  std::map<std::size_t, std::size_t> free_;  ///< offset to bytes; no two touch
  std::map<std::size_t, std::size_t> used_;
  std::size_t in_use_ = 0;
  std::size_t high_water_ = 0;
  std::size_t high_water_before_ = 0;  ///< the newest allocation
  std::size_t allocations_ = 0;
  std::size_t failures_ = 0;
};

}  // namespace collectives
