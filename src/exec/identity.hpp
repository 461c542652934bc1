#pragma once

#include <collectives/types.hpp>
#include <cstddef>
#include <cstdint>

namespace collectives {

/// An element's bytes, the first `size` of `bits`.
struct ElementBits {
  std::uint64_t bits = 0;
  int size = 0;
};

/// What an operation leaves as it is: combined with it, every operand keeps its bits. Of float32 if `carried`.
ElementBits identity_of(DataType type, bool carried, ReduceOp op);

/// Host memory: `count` elements, all alike.
void fill_elements(void* out, std::size_t count, ElementBits element);

}  // namespace collectives
