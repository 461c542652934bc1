#pragma once

#include "base/integers.hpp"
#include "exec/executor.hpp"
#include "kernels/program.hpp"

namespace collectives {

constexpr std::size_t packs_of(std::size_t count, DataType type) { return divide_up(count * size_of(type), sizeof(Pack)); }

/// Are its chunks the parts of a call, and not slices of one message?
constexpr bool is_cut_by_part(Collective collective) {
  return collective != Collective::all_reduce && collective != Collective::broadcast && collective != Collective::reduce;
}

/// Where a chunk of a program lies in a rank's buffers, and how long it is; null where it has no place.
kernels::Region region_of(const Call& call, const Program& program, int rank, int chunk);

/// Packs of the longest chunk that this rank knows of.
std::size_t longest_region(const Call& call, const Program& program);

}  // namespace collectives
