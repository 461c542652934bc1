#pragma once

#include <span>
#include <vector>

#include "topology/fabric.hpp"

namespace collectives {

/// The ranks in an order that follows from what they can do to each other, not from their numbers: equal groups of GPUs, however they
/// are listed, give equal fabrics when their ranks are put in it. Each rank is followed by the one it reaches best; of ranks that
/// nothing tells apart the next in number comes first, so that a fabric whose ranks are all alike keeps its order.
std::vector<int> standard_order(const Fabric& fabric);
/// The same with this rank first.
std::vector<int> standard_order(const Fabric& fabric, int first);

/// The same fabric with rank order[i] as rank i, and its resources in the order in which the ranks' ways meet them.
Fabric reordered(const Fabric& fabric, std::span<const int> order);

}  // namespace collectives
