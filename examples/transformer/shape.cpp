#include "shape.hpp"

#include <algorithm>
#include <collectives/communicator.hpp>
#include <string>

namespace transformer {
namespace {

using collectives::Error;
using collectives::ErrorCode;

// Columns of the MLP are dealt out by eights: 16 bytes, which is what wide loads and tensor cores want.
constexpr int granule = 8;

void expect(bool holds, const std::string& what) {
  if (!holds) throw Error(ErrorCode::invalid_argument, "expected " + what);
}

/// Part `rank` of `total` things in `ranks` runs, the longer ones first.
Span share(int total, int ranks, int rank) {
  const int each = total / ranks, longer = total % ranks;
  return {rank * each + std::min(rank, longer), each + (rank < longer ? 1 : 0)};
}

}  // namespace

Shard shard_of(const Shape& shape, int ranks, int rank) {
  const Span heads = share(shape.heads, ranks, rank);
  const int first_kv = heads.first / shape.group();
  const int last_kv = (heads.first + heads.count - 1) / shape.group();
  const Span eights = share(shape.mlp / granule, ranks, rank);
  return {heads, {first_kv, last_kv - first_kv + 1}, {eights.first * granule, eights.count * granule}};
}

void require_valid(const Shape& shape, int ranks) {
  expect(ranks >= 1 && ranks <= collectives::max_ranks, "ranks from 1 to " + std::to_string(collectives::max_ranks));
  expect(shape.hidden > 0 && shape.hidden % granule == 0, "a hidden size that is a multiple of 8");
  expect(shape.mlp > 0 && shape.mlp % granule == 0 && shape.mlp / granule >= ranks, "an MLP width of at least 8 a rank, in multiples of 8");
  expect(shape.heads >= ranks, "at least one head a rank");
  expect(shape.kv_heads > 0 && shape.heads % shape.kv_heads == 0, "heads that are a multiple of the key and value heads");
  expect(shape.head_dim > 0 && shape.head_dim % granule == 0, "a head size that is a multiple of 8");
  expect(shape.layers > 0, "at least one layer");
}

std::uint64_t key_of(std::uint64_t seed, Matrix matrix, int layer, int index) {
  return mixed(mixed(mixed(seed ^ static_cast<std::uint64_t>(matrix)) + static_cast<std::uint64_t>(layer)) +
               static_cast<std::uint64_t>(index));
}

}  // namespace transformer
