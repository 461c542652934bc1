#pragma once

#include <collectives/types.hpp>
#include <cstddef>
#include <vector>

#include "perf/data.hpp"

namespace perf {

/// How much one rank of a collective brings and gets, in elements, and where both lie in the buffer that they share in place.
struct Extent {
  std::size_t in = 0;
  std::size_t out = 0;
  std::size_t in_begins = 0;
  std::size_t out_begins = 0;
  bool shares = false;  ///< has it both, and may they be one buffer?
};

/// `count` is of the message, or of a rank's block where a buffer has a block a rank. A root of -1 is rank 0.
Extent extent_of(collectives::Collective kind, int rank, int ranks, std::size_t count, int root);

/// Blocks in the larger buffer.
int blocks_of(collectives::Collective kind, int ranks);

/// Elements `at` to `at` + `count` of an output hold those from `first` on of rank `of`, or of the reduction.
struct Piece {
  std::size_t at = 0;
  std::size_t count = 0;
  int of = all_ranks;
  std::size_t first = 0;
};
/// All of a rank's output, in order. In an exchange every rank sends to the next.
std::vector<Piece> pieces_of(collectives::Collective kind, int rank, int ranks, std::size_t count, int root);

}  // namespace perf
