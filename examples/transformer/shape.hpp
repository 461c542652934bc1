#pragma once

#include <cstdint>

#include "bfloat16.hpp"

namespace transformer {

/// The sizes of a stack of decoder blocks, whatever the number of ranks. Elements.
struct Shape {
  int hidden = 0;
  int heads = 0;     ///< of the queries
  int kv_heads = 0;  ///< heads / kv_heads query heads share one key and value head
  int head_dim = 0;
  int mlp = 0;  ///< width between the MLP's two products
  int layers = 0;

  COLLECTIVES_EXAMPLE_HOST_DEVICE int group() const { return heads / kv_heads; }
};

/// `count` heads or columns from `first` on.
struct Span {
  int first = 0;
  int count = 0;
};

/// What one rank holds of every layer. Column-parallel products (query, key, value; gate, up) hold these rows of their matrix, whole
/// columns of the result; row-parallel ones (attention output, down) hold these columns, and give a partial sum of the whole result.
struct Shard {
  Span heads;
  Span kv_heads;  ///< those that `heads` read; where a split cuts through a group, both sides hold its key and value head
  Span mlp;
};

/// Heads and MLP columns in runs as equal as can be; any number of ranks up to the number of heads.
Shard shard_of(const Shape& shape, int ranks, int rank);

/// Throws Error(invalid_argument) that says what is allowed.
void require_valid(const Shape& shape, int ranks);

/// A rectangle of a seeded matrix: its values depend on their place in the whole, so each rank makes its own part of the same matrix.
struct Piece {
  std::uint64_t key = 0;
  Span rows;
  Span columns;
  float scale = 1;  ///< values are offset + scale * uniform(-1, 1)
  float offset = 0;
};

enum class Matrix : std::uint64_t {
  input,
  attention_norm,
  query,
  key,
  value,
  attention_out,
  mlp_norm,
  gate,
  up,
  down,
  cached_key,
  cached_value
};

/// `index` tells matrices of one kind apart, such as the sequences of a cache.
std::uint64_t key_of(std::uint64_t seed, Matrix matrix, int layer, int index = 0);

/// splitmix64's finaliser.
COLLECTIVES_EXAMPLE_HOST_DEVICE constexpr std::uint64_t mixed(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

/// Element (row, column) of the piece, counted within it.
COLLECTIVES_EXAMPLE_HOST_DEVICE inline Bf16 value_of(const Piece& piece, int row, int column) {
  const auto place = static_cast<std::uint64_t>(piece.rows.first + row) << 32 | static_cast<std::uint32_t>(piece.columns.first + column);
  const auto drawn = static_cast<std::int32_t>(mixed(piece.key ^ mixed(place)) >> 40) - (1 << 23);
  return narrow(piece.offset + piece.scale * (static_cast<float>(drawn) * 0x1p-23f));
}

}  // namespace transformer
