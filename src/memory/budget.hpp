#pragma once

#include <cstddef>
#include <utility>

#include "memory/pool.hpp"

namespace collectives {

/// One pool's part of what this process's pools may hold together: all pools on one device (on the host: all host pools; of
/// pinned memory: all for one device) stay within the largest of their bounds. Thread-safe between pools.
class Budget {
 public:
  Budget(PoolKind kind, int device, std::size_t bound);
  /// Gives everything back.
  ~Budget();
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

  /// Throws Error(out_of_memory) that says what was needed, the bound, what other pools hold and how to raise it.
  void take(std::size_t bytes);
  void give_back(std::size_t bytes);

 private:
  std::pair<bool, int> place_;  ///< pinned or not, device
  std::size_t bound_;
  std::size_t taken_ = 0;
};

/// What a pool with this bound could take at its place now.
std::size_t room_for(PoolKind kind, int device, std::size_t bound);
/// Do other pools hold anything there?
bool is_shared_place(PoolKind kind, int device);

}  // namespace collectives
