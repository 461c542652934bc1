#pragma once

#include <vector>

#include "topology/fabric.hpp"

namespace collectives {

/// The ranks in islands, within which each reaches every other directly. An island begins with the lowest rank that is left and grows
/// as large as that rank's best company allows.
std::vector<std::vector<int>> islands_of(const Fabric& fabric);

}  // namespace collectives
