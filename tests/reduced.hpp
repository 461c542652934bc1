#pragma once

#include <collectives/types.hpp>
#include <cstddef>
#include <vector>

namespace collectives {

/// What every rank must get, bit for bit: operands in ascending order of rank in their accumulator, each times its rank's factor if there are any, rounded once.
std::vector<std::byte> reduced(DataType type, ReduceOp op, const std::vector<std::vector<std::byte>>& inputs, const std::vector<std::vector<std::byte>>& factors);

}  // namespace collectives
