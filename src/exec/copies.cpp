#include "exec/copies.hpp"

#include <algorithm>

#include "base/require.hpp"
#include "exec/regions.hpp"
#include "planner/shape.hpp"

namespace collectives {

static_assert(copy_buffers == kernels::copy_buffers);

CutCall::CutCall(const RankContext& context, const Call& call, const Plan& plan, const Program& program)
    : context_(context), rank_(context.rank), ranks_(context.ranks), piece_bytes_(plan.tile_bytes), element_(size_of(call.type)), op_(call.op) {
  ensure(program.chunks == ranks_, "copy engines carry a chunk a rank");
  ensure(piece_bytes_ > 0 && piece_bytes_ % sizeof(Pack) == 0, "a piece that copy engines carry is of whole packs");
  ensure(!call.carried && call.factor.given == Factor::none, "copy engines move operands as they are");
  std::size_t longest = 0;
  for (int owner = 0; owner < ranks_; ++owner) {
    kernels::Region& chunk = chunk_[static_cast<std::size_t>(owner)];
    chunk = region_of(call, program, rank_, owner);
    longest = std::max(longest, chunk.count * element_);
  }
  pieces_ = static_cast<int>(std::max<std::size_t>(divide_up(longest, piece_bytes_), 1));
}

CutCall::Extent CutCall::extent(int chunk, int piece) const {
  const std::size_t all = chunk_[static_cast<std::size_t>(chunk)].count * element_;
  const std::size_t first = std::min(static_cast<std::size_t>(piece) * piece_bytes_, all);
  return {first, std::min(all - first, piece_bytes_)};
}

kernels::CopySumArgs CutCall::sum_without_slots(int piece) const {
  const Extent part = extent(rank_, piece);
  kernels::CopySumArgs args{};
  args.operand[rank_] = input(rank_, piece);
  args.out = output(rank_, piece);
  args.count = part.bytes / element_;
  args.in_aligned = reinterpret_cast<std::uintptr_t>(args.operand[rank_]) % sizeof(Pack) == 0;
  args.out_aligned = reinterpret_cast<std::uintptr_t>(args.out) % sizeof(Pack) == 0;
  args.whole = args.in_aligned && args.out_aligned ? part.bytes / sizeof(Pack) : 0;
  args.rank = static_cast<std::uint8_t>(rank_);
  args.ranks = static_cast<std::uint8_t>(ranks_);
  args.divisor = static_cast<std::uint16_t>(op_ == ReduceOp::avg ? ranks_ : 1);
  args.op = op_;
  return args;
}

CopyCall::CopyCall(const RankContext& context, const Call& call, const Plan& plan, const Program& program) : CutCall(context, call, plan, program) {
  ensure(context.out_of_reach == 0, "copies into peers' pools are for ranks that all reach each other");
  ensure(copy_buffers * static_cast<std::size_t>(ranks_ - 1) * piece_bytes_ <= context.layout.copy_bytes, "a plan does not fit the pool it was made for");
}

std::byte* CopyCall::slot(int rank, int g, int sender) const {
  const std::size_t index = static_cast<std::size_t>(g) % copy_buffers * static_cast<std::size_t>(ranks_ - 1) + lane(rank, sender);
  return context_.pools[static_cast<std::size_t>(rank)] + context_.layout.copies() + index * piece_bytes_;
}

CopySpan CopyCall::copy(int g, CopyGroup group, int round) const {
  const int to = peer(round), chunk = group.gathers ? rank_ : to;
  return {group.gathers ? output(chunk, group.piece) : input(chunk, group.piece), slot(to, g, rank_), extent(chunk, group.piece).bytes};
}

CopySpan CopyCall::take(int g, CopyGroup group, int round) const {
  const int from = sender(round);
  return {slot(rank_, g, from), output(from, group.piece), extent(from, group.piece).bytes};
}

kernels::CopySumArgs CopyCall::sum(int g, CopyGroup group) const {
  return sum_of(group.piece, [&](int rank) { return slot(rank_, g, rank); });
}

}  // namespace collectives
