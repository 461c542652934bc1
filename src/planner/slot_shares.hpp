#pragma once

#include <cstddef>

#include "topology/fabric.hpp"

namespace collectives {

/// How a pool on a GPU is dealt out, in 256ths of its slots: to one half for sentinels, to one for flags, and to sends and receives.
struct SlotShares {
  std::size_t sentinels = 93, flags = 20, mail = 30;
};

/// What suits these ranks.
SlotShares slot_shares(const Fabric& fabric);

/// A 256th of the slots of a pool that nothing bounds: nothing measured gains from more.
inline constexpr std::size_t largest_slot_share = std::size_t{256} << 10;

}  // namespace collectives
