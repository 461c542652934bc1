#include "perf/extent.hpp"

namespace perf {

using collectives::Collective;

int blocks_of(Collective kind, int ranks) {
  switch (kind) {
    case Collective::all_reduce:
    case Collective::broadcast:
    case Collective::reduce:
    case Collective::exchange: return 1;
    default: return ranks;
  }
}

Extent extent_of(Collective kind, int rank, int ranks, std::size_t count, int root) {
  const std::size_t all = count * static_cast<std::size_t>(blocks_of(kind, ranks)), own = count * static_cast<std::size_t>(rank);
  const bool leads = rank == (root < 0 ? 0 : root);
  switch (kind) {
    case Collective::all_reduce: return {count, count, 0, 0, true};
    case Collective::reduce_scatter: return {all, count, 0, own, true};
    case Collective::all_gather: return {count, all, own, 0, true};
    case Collective::broadcast: return {leads ? count : 0, count, 0, 0, leads};
    case Collective::reduce: return {count, leads ? count : 0, 0, 0, leads};
    case Collective::gather: return {count, leads ? all : 0, own, 0, leads};
    case Collective::scatter: return {leads ? all : 0, count, 0, own, leads};
    case Collective::all_to_all: return {all, all, 0, 0, false};
    case Collective::exchange: return {count, count, 0, 0, false};
  }
  return {};
}

std::vector<Piece> pieces_of(Collective kind, int rank, int ranks, std::size_t count, int root) {
  const std::size_t own = count * static_cast<std::size_t>(rank);
  const int from_root = root < 0 ? 0 : root;
  if (extent_of(kind, rank, ranks, count, root).out == 0) return {};
  switch (kind) {
    case Collective::all_reduce:
    case Collective::reduce: return {{0, count, all_ranks, 0}};
    case Collective::reduce_scatter: return {{0, count, all_ranks, own}};
    case Collective::broadcast: return {{0, count, from_root, 0}};
    case Collective::scatter: return {{0, count, from_root, own}};
    case Collective::exchange: return {{0, count, (rank + ranks - 1) % ranks, 0}};
    default: break;
  }
  std::vector<Piece> pieces;
  for (int from = 0; from < ranks; ++from)
    pieces.push_back({count * static_cast<std::size_t>(from), count, from, kind == Collective::all_to_all ? own : 0});
  return pieces;
}

}  // namespace perf
