#include "memory/committed_pool.hpp"

#include "memory/rollback.hpp"

namespace collectives {
CommittedPool::CommittedPool(PoolKind kind, int device, std::size_t bound, std::size_t granule)
    : CommittedPool(kind, device, bound, granule, bound) {}

CommittedPool::CommittedPool(PoolKind kind, int device, std::size_t bound, std::size_t granule, std::size_t capacity)
    : granule_(granule), bound_(round_up(bound, granule)), budget_(kind, device, bound_), arena_(round_up(capacity, granule)) {}

void CommittedPool::commit(std::size_t bytes) {
  const std::size_t added = round_up(bytes, granule_);
  budget_.take(added);
  Rollback rollback([&] { budget_.give_back(added); });
  back(committed_, added);
  rollback.dismiss();
  committed_ += added;
}

std::size_t CommittedPool::allocate(std::size_t bytes) {
  const std::size_t offset = arena_.allocate(bytes);
  const std::size_t end = offset + arena_.size_of(offset);
  if (end <= committed_) return offset;
  Rollback rollback([&] { arena_.undo(offset); });
  commit(end - committed_);
  rollback.dismiss();
  return offset;
}

PoolStatistics CommittedPool::statistics() const {
  PoolStatistics statistics = arena_.statistics();
  statistics.committed = committed_;
  return statistics;
}

}  // namespace collectives
