#include "perf/extent.hpp"

namespace perf {

using Kind = collectives::Collective;

int blocks_of(Kind kind, int ranks) {
  switch (kind) {
    case Kind::all_reduce:
    case Kind::broadcast:
    case Kind::reduce:
    case Kind::exchange: return 1;
    default: return ranks;
  }
}

Extent extent_of(Kind kind, int rank, int ranks, std::size_t count, int root) {
  const std::size_t all = count * static_cast<std::size_t>(blocks_of(kind, ranks)), own = count * static_cast<std::size_t>(rank);
  const bool leads = rank == (root < 0 ? 0 : root);
  switch (kind) {
    case Kind::all_reduce: return {count, count, 0, 0, true};
    case Kind::reduce_scatter: return {all, count, 0, own, true};
    case Kind::all_gather: return {count, all, own, 0, true};
    case Kind::broadcast: return {leads ? count : 0, count, 0, 0, leads};
    case Kind::reduce: return {count, leads ? count : 0, 0, 0, leads};
    case Kind::gather: return {count, leads ? all : 0, own, 0, leads};
    case Kind::scatter: return {leads ? all : 0, count, 0, own, leads};
    case Kind::all_to_all: return {all, all, 0, 0, false};
    case Kind::exchange: return {count, count, 0, 0, false};
  }
  return {};
}

std::vector<Piece> pieces_of(Kind kind, int rank, int ranks, std::size_t count, int root) {
  const std::size_t own = count * static_cast<std::size_t>(rank);
  const int from_root = root < 0 ? 0 : root;
  if (extent_of(kind, rank, ranks, count, root).out == 0) return {};
  switch (kind) {
    case Kind::all_reduce:
    case Kind::reduce: return {{0, count, all_ranks, 0}};
    case Kind::reduce_scatter: return {{0, count, all_ranks, own}};
    case Kind::broadcast: return {{0, count, from_root, 0}};
    case Kind::scatter: return {{0, count, from_root, own}};
    case Kind::exchange: return {{0, count, (rank + ranks - 1) % ranks, 0}};
    default: break;
  }
  std::vector<Piece> pieces;
  for (int from = 0; from < ranks; ++from)
    pieces.push_back({count * static_cast<std::size_t>(from), count, from, kind == Kind::all_to_all ? own : 0});
  return pieces;
}

}  // namespace perf
