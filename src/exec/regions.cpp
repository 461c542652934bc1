#include "exec/regions.hpp"

#include <algorithm>

namespace collectives {
namespace {

/// A chunk of one message.
kernels::Region slice_of(const Call& call, const Program& program, int chunk) {
  const std::size_t packs = packs_of(call.count, call.type), elements = sizeof(Pack) / size_of(call.type);
  const std::size_t size = call.carried ? sizeof(float) : size_of(call.type);
  const std::size_t begin = std::min(chunk_begin(program, packs, chunk) * elements, call.count);
  const std::size_t end = std::min(chunk_begin(program, packs, chunk + 1) * elements, call.count);
  kernels::Region region{};
  // A rank that gives or takes nothing has no buffer.
  if (call.in != nullptr) region.in = static_cast<const std::byte*>(call.in) + begin * size;
  if (call.out != nullptr) region.out = static_cast<std::byte*>(call.out) + begin * size;
  region.count = end - begin;
  return region;
}

}  // namespace

kernels::Region region_of(const Call& call, const Program& program, int rank, int chunk) {
  if (!is_cut_by_part(call.collective)) return slice_of(call, program, chunk);
  kernels::Region region{};
  const auto take_in = [&](const Part& part) { region.in = part.in, region.count = part.in_count; };
  const auto take_out = [&](const Part& part) { region.out = part.out, region.count = part.out_count; };
  if (call.collective != Collective::all_to_all) {
    take_in(call.parts[static_cast<std::size_t>(chunk)]);
    take_out(call.parts[static_cast<std::size_t>(chunk)]);
    return region;
  }
  const int from = chunk / program.ranks, to = chunk % program.ranks;
  if (from == rank) take_in(call.parts[static_cast<std::size_t>(to)]);
  if (to == rank) take_out(call.parts[static_cast<std::size_t>(from)]);
  return region;
}

std::size_t longest_region(const Call& call, const Program& program) {
  if (!is_cut_by_part(call.collective)) return longest_chunk(program, packs_of(call.count, call.type));
  std::size_t longest = 0;
  for (const Part& part : call.parts) longest = std::max({longest, packs_of(part.in_count, call.type), packs_of(part.out_count, call.type)});
  return longest;
}

}  // namespace collectives
