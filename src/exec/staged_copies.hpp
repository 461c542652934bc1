#pragma once

#include "exec/copies.hpp"

// The two-shot all-reduce of exec/copies.hpp where no GPU reaches another: copy engines carry every byte out of a GPU into pinned host memory and out
// of that into the other GPUs. What several ranks read is copied out once. A bus carries both directions at once, so both are kept busy: a
// *group*, a piece of every chunk that is scattered or gathered, is copied out while the one before is copied in. Four streams do that:
// one copies out, one copies in, one has the meetings, kernels of one warp in which a rank says that its part of a group is whole and waits for
// everybody's, and the caller's sums. Engines move 45 GB/s each way in pieces of 2 MB between two or four H200, 36 in pieces of half a MB, which cost 2.4 us
// each beside what they carry. The pieces of all ranks together have to stay in the CPUs' cache: host memory itself is slower than four slots.
//
// A rank's slots are in its own part of host memory, where the others read: two for each peer's operands and two for totals, which pieces take in
// turn. As many for operands are in its GPU, into which those of the others are copied to be summed; totals are copied to where they belong.
// Addresses depend on the piece alone, so that copies can be captured. Why no slot is read early or overwritten late:
// - a meeting's kernel comes after the group's copies in stream order and releases at system scope; a reader's copies come after its own kernel
//   of that meeting, which has acquired that word of every peer's.
// - a rank meets for group g only after it has consumed group g-2: summed what it copied in, or copied in the totals. Who has met for group h+2 so
//   knows that all have consumed group h. A copy into the slots that h used waits for that.
// - operands are copied into the GPU behind a meeting, and so behind the sum of the piece that used the slots before.
// - the first kernel of a call waits for the headers of all peers, and with them for all that they have consumed in earlier calls.
//
// A rank waits for its peers in meetings alone, which come one after the other in the same order everywhere, and what comes before a meeting waits for
// nothing but earlier ones: so the call ends, however streams share a GPU's queues.
namespace collectives {

inline constexpr int staged_buffers = 2;  // planner/shape.hpp

/// The group whose slots in host memory this one uses again; -1 for none.
constexpr int group_before_in_slots(int group, int pieces) {
  const CopyGroup now = copy_group(group, pieces);
  for (int g = group - 1; g >= 0; --g) {
    const CopyGroup then = copy_group(g, pieces);
    if (then.gathers == now.gathers && then.piece == now.piece - staged_buffers) return g;
  }
  return -1;
}
static_assert(group_before_in_slots(3, 5) == 0 && group_before_in_slots(5, 5) == 1 && group_before_in_slots(6, 5) == 2 && group_before_in_slots(9, 5) == 6);

/// The streams of a call.
enum class StagedLane { caller, out, meetings, in };
inline constexpr int staged_lanes = 4;

/// Points in streams that others wait for.
enum class StagedPoint { begun, copied_out, met, copied_in, summed };

/// Tells `sink` what one rank does in a call, in the order in which it is enqueued: work on a stream, mark(point, g, stream), and
/// follow(stream, point, g), which waits for the latest such mark.
template <typename Sink>
void walk_staged_copies(int ranks, int pieces, Sink& sink) {
  using enum StagedLane;
  using enum StagedPoint;
  const auto follow_consumed = [&](StagedLane lane, int g) { sink.follow(lane, copy_group(g, pieces).gathers ? copied_in : summed, g); };
  sink.open();
  sink.mark(begun, 0, caller);
  sink.follow(out, begun, 0);
  for (int g = 0; g < copy_groups(pieces); ++g) {
    const CopyGroup group = copy_group(g, pieces);
    if (const int before = group_before_in_slots(g, pieces); before >= 0) sink.follow(out, met, before + 2);
    if (group.gathers) sink.follow(out, summed, scattering_group(group.piece));
    for (int round = 1; round < (group.gathers ? 2 : ranks); ++round) sink.copy_out(group, round);
    sink.mark(copied_out, g, out);

    sink.follow(meetings, copied_out, g);
    if (g >= 2) follow_consumed(meetings, g - 2);
    sink.meet(g);
    sink.mark(met, g, meetings);

    sink.follow(in, met, g);
    for (int round = 1; round < ranks; ++round) sink.copy_in(group, round);
    sink.mark(copied_in, g, in);
    if (group.gathers) continue;
    sink.follow(caller, copied_in, g);
    sink.sum(group);
    sink.mark(summed, g, caller);
  }
  sink.follow(caller, copied_in, copy_groups(pieces) - 1);
}

/// Where everything of one rank's call lies.
class StagedCall : public CutCall {
 public:
  StagedCall(const RankContext& context, const Call& call, const Plan& plan, const Program& program);

  /// What this rank has for the peer of a round, or for all, from the GPU to its slots in host memory.
  CopySpan copy_out(CopyGroup group, int round) const;
  /// What the peer of a round has for this rank, or for all.
  CopySpan copy_in(CopyGroup group, int round) const;
  /// What combines this rank's piece with the operands that were copied in.
  kernels::CopySumArgs sum(CopyGroup group) const;

 private:
  std::byte* slot(int rank, CopyGroup group, int reader) const;
  std::byte* operand(int piece, int sender) const;
};

}  // namespace collectives
