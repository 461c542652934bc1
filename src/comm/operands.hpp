#pragma once

#include <collectives/types.hpp>
#include <array>
#include <cstddef>
#include <span>

#include "collectives/communicator.hpp"

namespace collectives {

/// What every call is checked for, whatever it does. They throw Error(invalid_argument) that says what was expected.
void check_type(DataType type);
void check_operation(ReduceOp op);
void check_root(int root, int ranks);
void check_same_type(const ConstBuffer& in, const Buffer& out);
/// `count` elements of `type` at an address that fits them.
void check_place(const void* data, DataType type, const char* name);
/// `expected` elements, which is `why`.
void check_count(std::size_t count, std::size_t expected, const char* name, const char* why);
/// The buffers must be apart, but for an input that begins `offset` elements into the output, or the output into the input.
void check_apart(const ConstBuffer& in, const Buffer& out, std::size_t in_begins, std::size_t out_begins);

/// A buffer as a block a rank.
struct Blocks {
  std::array<std::size_t, max_ranks> begin{};
  std::array<std::size_t, max_ranks> count{};
  std::size_t total = 0;
  std::size_t largest = 0;
};
Blocks equal_blocks(int ranks, std::size_t count);
/// Throws Error(invalid_argument) unless there is a count for each rank.
Blocks blocks_of(std::span<const std::size_t> counts, int ranks);

}  // namespace collectives
