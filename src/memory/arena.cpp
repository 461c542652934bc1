#include "memory/arena.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/require.hpp"

namespace collectives {
namespace {

/// At least one unit, so that offsets are unique. `bytes` is no more than the arena has, so nothing overflows.
std::size_t padded(std::size_t bytes) {
  return std::max<std::size_t>(1, (bytes + Arena::alignment - 1) / Arena::alignment) * Arena::alignment;
}

}  // namespace

Arena::Arena(std::size_t bytes) : bytes_(bytes / alignment * alignment) {
  if (bytes_ > 0) free_.emplace(0, bytes_);
}

std::size_t Arena::allocate(std::size_t bytes) {
  const std::size_t needed = bytes <= bytes_ ? padded(bytes) : bytes;
  const auto hole = std::find_if(free_.begin(), free_.end(), [&](const auto& entry) { return entry.second >= needed; });
  if (hole == free_.end()) {
    ++failures_;
    throw Error(ErrorCode::out_of_memory,
                fmt::format("{} bytes needed: the pool's bound is {} bytes, {} of them are in use and the largest free part has {}", bytes,
                            bytes_, in_use_, largest_free()));
  }
  const auto [offset, available] = *hole;
  used_.emplace(offset, needed);
  free_.erase(hole);
  if (available > needed) free_.emplace(offset + needed, available - needed);
  in_use_ += needed;
  high_water_before_ = high_water_;
  high_water_ = std::max(high_water_, in_use_);
  ++allocations_;
  return offset;
}

void Arena::release(std::size_t offset) {
  const auto allocation = used_.find(offset);
  require(allocation != used_.end(), [&] { return fmt::format("offset {} is not an allocation of this pool", offset); });
  auto [begin, size] = *allocation;
  used_.erase(allocation);
  in_use_ -= size;
  auto next = free_.lower_bound(begin);
  if (next != free_.end() && next->first == begin + size) {
    size += next->second;
    next = free_.erase(next);
  }
  if (next != free_.begin()) {
    const auto previous = std::prev(next);
    if (previous->first + previous->second == begin) {
      previous->second += size;
      return;
    }
  }
  free_.emplace(begin, size);
}

void Arena::undo(std::size_t offset) {
  release(offset);
  high_water_ = high_water_before_;
  --allocations_;
  ++failures_;
}

std::size_t Arena::size_of(std::size_t offset) const {
  const auto allocation = used_.find(offset);
  require(allocation != used_.end(), [&] { return fmt::format("offset {} is not an allocation of this pool", offset); });
  return allocation->second;
}

std::size_t Arena::largest_free() const {
  std::size_t largest = 0;
  for (const auto& [offset, size] : free_) largest = std::max(largest, size);
  return largest;
}

PoolStatistics Arena::statistics() const {
  return {.reserved = bytes_,
          .committed = bytes_,
          .in_use = in_use_,
          .high_water = high_water_,
          .allocations = allocations_,
          .failures = failures_};
}

}  // namespace collectives
