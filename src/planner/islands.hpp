#pragma once

#include <vector>

#include "topology/fabric.hpp"

namespace collectives {

/// The ranks in islands, within which each reaches every other directly: each rank, in ascending order, joins the first island that
/// it may.
std::vector<std::vector<int>> islands_of(const Fabric& fabric);

}  // namespace collectives
