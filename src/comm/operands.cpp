#include "comm/operands.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/require.hpp"

namespace collectives {
namespace {

constexpr std::size_t largest_count = SIZE_MAX / 16 / max_ranks;

}  // namespace

void check_type(DataType type) {
  require(is_valid(type), [&] { return fmt::format("type {} is unknown: expected one of the {} types of DataType", static_cast<int>(type), data_type_count); });
}

void check_operation(ReduceOp op) {
  require(is_valid(op), [&] { return fmt::format("operation {} is unknown: expected one of the {} operations of ReduceOp", static_cast<int>(op), reduce_op_count); });
}

void check_root(int root, int ranks) {
  require(root >= 0 && root < ranks, [&] { return fmt::format("the root is {}: expected a rank, 0 to {}", root, ranks - 1); });
}

void check_same_type(const ConstBuffer& in, const Buffer& out) {
  require(in.type == out.type, [&] { return fmt::format("in is {} and out is {}: expected the same type", name_of(in.type), is_valid(out.type) ? name_of(out.type) : "unknown"); });
}

void check_place(const void* data, DataType type, const char* name) {
  const auto size = size_of(type);
  require(reinterpret_cast<std::uintptr_t>(data) % size == 0,
          [&] { return fmt::format("{} is at {}: expected an address aligned to the {} bytes of a {}", name, data, size, name_of(type)); });
}

void check_count(std::size_t count, std::size_t expected, const char* name, const char* why) {
  require(count <= largest_count, [&] { return fmt::format("a count of {} is larger than any memory", count); });
  require(count == expected, [&] { return fmt::format("{} has {} elements: expected {}, {}", name, count, expected, why); });
}

void check_apart(const ConstBuffer& in, const Buffer& out, std::size_t in_begins, std::size_t out_begins) {
  const auto size = size_of(in.type);
  const auto a = reinterpret_cast<std::uintptr_t>(in.data), b = reinterpret_cast<std::uintptr_t>(out.data);
  const bool in_place = a + out_begins * size == b + in_begins * size;
  require(in_place || in.count == 0 || out.count == 0 || a + in.count * size <= b || b + out.count * size <= a,
          "in and out overlap: expected buffers apart, or one in the place of its part of the other");
}

Blocks equal_blocks(int ranks, std::size_t count) {
  require(count <= largest_count, [&] { return fmt::format("a count of {} is larger than any memory", count); });
  std::array<std::size_t, max_ranks> counts;
  counts.fill(count);
  return blocks_of({counts.data(), static_cast<std::size_t>(ranks)}, ranks);
}

Blocks blocks_of(std::span<const std::size_t> counts, int ranks) {
  require(counts.size() == static_cast<std::size_t>(ranks), [&] { return fmt::format("{} counts: expected one for each of the {} ranks", counts.size(), ranks); });
  Blocks blocks;
  for (std::size_t rank = 0; rank < counts.size(); ++rank) {
    require(counts[rank] <= largest_count, [&] { return fmt::format("a count of {} is larger than any memory", counts[rank]); });
    blocks.begin[rank] = blocks.total;
    blocks.count[rank] = counts[rank];
    blocks.total += counts[rank];
    blocks.largest = std::max(blocks.largest, counts[rank]);
  }
  return blocks;
}

}  // namespace collectives
