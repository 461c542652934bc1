#pragma once

#include <memory>
#include <optional>

#include "comm/demotion.hpp"
#include "kernels/control.hpp"
#include "memory/budget.hpp"
#include "memory/pool.hpp"
#include "memory/shared_memory.hpp"
#include "transport/mesh.hpp"

namespace collectives {

/// Memory that the processes of a communicator share beside their pools: the board on which links are taken out, and room for pools in
/// host memory, where ranks meet once their links are out. The room is address space alone until then.
class SharedReserve {
 public:
  /// Collective. `pool_bytes`: of a rank's pool; 0 for the board alone.
  SharedReserve(Mesh& mesh, std::size_t pool_bytes);

  DemotionBoard& board() const { return *reinterpret_cast<DemotionBoard*>(memory_.base()); }
  bool has_room() const { return pool_bytes_ > 0; }
  /// Every rank's pool.
  PoolBases pools() const;
  /// Backs the pools of all ranks with memory and fills them as they are before the first call. By one rank, before any other uses them.
  void fill(const kernels::Layout& layout, Epoch first_epoch) const;
  /// Lets `device` (-1: host) reach them, once.
  void open(int device, std::size_t pool_bound);

 private:
  int ranks_;
  std::size_t pool_bytes_;
  SharedMemory memory_;
  std::optional<Budget> budget_;
  std::unique_ptr<PeerMapping> pinned_;
};

}  // namespace collectives
