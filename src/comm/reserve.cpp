#include "comm/reserve.hpp"

#include "base/require.hpp"
#include "comm/impl.hpp"

namespace collectives {
namespace {

constexpr std::size_t granule = std::size_t{64} << 10;  // no page of CPUs with this library is larger
constexpr std::size_t board_bytes = granule;
static_assert(sizeof(DemotionBoard) <= board_bytes);

SharedMemory share(Mesh& mesh, std::size_t bytes) {
  if (mesh.rank() == 0) {
    SharedMemory memory = SharedMemory::reserve(bytes);
    memory.back(0, board_bytes);
    (void)mesh.exchange(memory.descriptor());
    return memory;
  }
  const auto descriptors = mesh.exchange({});
  return SharedMemory::map(descriptors[0], bytes);
}

std::size_t rounded(std::size_t bytes) { return (bytes + granule - 1) / granule * granule; }

}  // namespace

SharedReserve::SharedReserve(Mesh& mesh, std::size_t pool_bytes)
    : ranks_(mesh.size()), pool_bytes_(rounded(pool_bytes)), memory_(share(mesh, board_bytes + static_cast<std::size_t>(mesh.size()) * pool_bytes_)) {}

PoolBases SharedReserve::pools() const {
  PoolBases bases{};
  for (std::size_t rank = 0; rank < static_cast<std::size_t>(ranks_); ++rank) bases[rank] = memory_.base() + board_bytes + rank * pool_bytes_;
  return bases;
}

void SharedReserve::fill(const kernels::Layout& layout, Epoch first_epoch) const {
  ensure(has_room() && layout.bytes() <= pool_bytes_, "pools are filled that there is no room for");
  memory_.back(board_bytes, static_cast<std::size_t>(ranks_) * pool_bytes_);
  const PoolBases bases = pools();
  for (std::size_t rank = 0; rank < static_cast<std::size_t>(ranks_); ++rank) fill_pool(bases[rank], layout, first_epoch);
}

void SharedReserve::open(int device, std::size_t pool_bound) {
  if (budget_ || device < 0) return;
  budget_.emplace(PoolKind::pinned, device, pool_bound);
  budget_->take(pool_bytes_);
#if COLLECTIVES_HAS_CUDA
  pinned_ = pin_mapped(memory_.base() + board_bytes, static_cast<std::size_t>(ranks_) * pool_bytes_, device);
#endif
}

}  // namespace collectives
