#pragma once

#include "memory/arena.hpp"
#include "memory/budget.hpp"
#include "memory/pool.hpp"

namespace collectives {

/// What all kinds of pools have in common: an arena over the bound, of which the front is backed by memory, within the
/// process's budget. A kind says how memory is added behind what is there.
class CommittedPool : public Pool {
 public:
  PoolStatistics statistics() const final;
  std::size_t allocate(std::size_t bytes) final;
  void release(std::size_t offset) final { arena_.release(offset); }

 protected:
  /// `granule`: memory comes in multiples of it, and the bound is rounded up to one.
  CommittedPool(PoolKind kind, int device, std::size_t bound, std::size_t granule);
  /// For a kind that can never have more than `capacity`, whatever the bound is.
  CommittedPool(PoolKind kind, int device, std::size_t bound, std::size_t granule, std::size_t capacity);

  /// Backs `bytes` more bytes, rounded up to a granule. For the constructors of the kinds, once, and for `allocate`.
  void commit(std::size_t bytes);

  std::size_t bound() const { return bound_; }
  std::size_t committed() const { return committed_; }

 private:
  /// Adds zeroed memory at [offset, offset + bytes), whole granules, or throws and leaves things as they were.
  virtual void back(std::size_t offset, std::size_t bytes) = 0;

  std::size_t granule_;
  std::size_t bound_;
  std::size_t committed_ = 0;
  Budget budget_;
  Arena arena_;
};

constexpr std::size_t round_up(std::size_t bytes, std::size_t granule) { return (bytes + granule - 1) / granule * granule; }

}  // namespace collectives
