#include "exec/staged_copies.hpp"

#include "base/require.hpp"
#include "planner/shape.hpp"

namespace collectives {

static_assert(staged_copy_buffers == staged_buffers);

StagedCall::StagedCall(const RankContext& context, const Call& call, const Plan& plan, const Program& program) : CutCall(context, call, plan, program) {
  ensure(context.out_of_reach == (all_of(ranks_) & ~mask_of(rank_)), "copies through host memory are for ranks of which none reaches another");
  ensure(static_cast<std::size_t>(staged_buffers * ranks_) * piece_bytes_ <= context.layout.copy_bytes, "a plan does not fit the pool it was made for");
}

/// In its rank's part of host memory: for each peer, then for all.
std::byte* StagedCall::slot(int rank, CopyGroup group, int reader) const {
  const auto buffer = static_cast<std::size_t>(group.piece % staged_buffers * ranks_);
  const std::size_t row = group.gathers ? static_cast<std::size_t>(ranks_ - 1) : lane(rank, reader);
  return context_.common[static_cast<std::size_t>(rank)] + context_.layout.copies() + (buffer + row) * piece_bytes_;
}

/// In this rank's GPU.
std::byte* StagedCall::operand(int piece, int sender) const {
  const auto buffer = static_cast<std::size_t>(piece % staged_buffers * (ranks_ - 1));
  return context_.pools[static_cast<std::size_t>(rank_)] + context_.layout.copies() + (buffer + lane(rank_, sender)) * piece_bytes_;
}

CopySpan StagedCall::copy_out(CopyGroup group, int round) const {
  const int reader = peer(round), chunk = group.gathers ? rank_ : reader;
  return {group.gathers ? output(chunk, group.piece) : input(chunk, group.piece), slot(rank_, group, reader), extent(chunk, group.piece).bytes};
}

CopySpan StagedCall::copy_in(CopyGroup group, int round) const {
  const int from = peer(round);
  const std::size_t bytes = extent(group.gathers ? from : rank_, group.piece).bytes;
  return {slot(from, group, rank_), group.gathers ? output(from, group.piece) : operand(group.piece, from), bytes};
}

kernels::CopySumArgs StagedCall::sum(CopyGroup group) const {
  return sum_of(group.piece, [&](int rank) { return operand(group.piece, rank); });
}

}  // namespace collectives
