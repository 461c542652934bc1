#pragma once

#include <array>

#include "exec/executor.hpp"
#include "kernels/copy.hpp"
#include "kernels/program.hpp"

// A two-shot all-reduce that copy engines carry. They move a byte faster than stores do when all GPUs send at once, and they leave
// the multiprocessors to the caller: what is left for these is a few blocks that combine, and kernels of one warp that tell and
// wait. It costs as many bytes as two-shot, 2(N-1)/N of the message out of every port, and several microseconds a group of copies,
// which huge messages alone have to spare. Peers' buffers are not mapped, so that all data pass through slots in the peers' pools.
//
// Chunk r of the message is rank r's, and each chunk is cut in the same number of pieces. A *group* is the N-1 copies that carry a
// piece of every chunk: a scattering group brings operands to the chunks' owners, a gathering group brings their totals to all. In
// round k of a group rank r copies to rank r+k, so that everyone sends to one and receives from one at any time: several copies out
// of a GPU, or into one, at once are much slower than one after the other. With two pieces and more the groups alternate
//   scatter 0, scatter 1, gather 0, scatter 2, gather 1, ..., scatter n-1, gather n-2, gather n-1
// so that while one is copied the one before is consumed: combined into the owner's output, or copied from the slots into the
// output. Two streams do that. The copying stream, the communicator's own, has all copies to peers and between two groups a
// *meeting*: a rank tells its peers that its group is whole and waits for theirs. So all ranks begin every group together and the
// rounds stay in step. The caller's stream consumes.
//
// Every slot is written by one peer, at an address that depends on the number of the group in the call alone: captured copies find
// them wherever they are replayed. Group g has buffer g mod 3. There is one counter for each ordered pair of ranks, in which the
// sender says that its groups up to g are whole; it is tagged with the epoch, which kernels read from memory. Why a slot is never read
// early or overwritten late:
// - the counter is released by a kernel that comes after the copies in stream order: it starts when they have been performed in the
//   reader's memory, and their writes happen before it as those of a kernel before it would. A release at system scope hands on all
//   that happened before it, whoever wrote it; the reader acquires in a kernel, before the kernel or the copy that reads the slot in
//   stream order. No copy is polled for, and no flag travels in one.
// - a rank tells of group g only after it has consumed group g-2, which its copying stream waits for. Who has met for group g+2 may
//   thus overwrite what group g left, which is what group g+3 does. A total is gathered after it was summed, by the same kind of wait.
// - the first kernel of a call waits for the headers of all peers, and with them for all that they have consumed in earlier calls.
//
// A rank waits for its peers only after it has told them as much itself, by the order of the streams and of what they wait for in each
// other. So the call ends even if a rank does one thing at a time, in any order that these allow: it does not matter how streams, or
// the branches of a graph, share a GPU's queues.
namespace collectives {

/// A group of copies: operands of a piece of every chunk, or totals.
struct CopyGroup {
  bool gathers = false;
  int piece = 0;
  bool operator==(const CopyGroup&) const = default;
};

constexpr int copy_groups(int pieces) { return 2 * pieces; }
constexpr CopyGroup copy_group(int group, int pieces) {
  const int scattered = (group + 1) / 2;
  if (group != 0 && group % 2 == 0) return {true, group / 2 - 1};
  return scattered < pieces ? CopyGroup{false, scattered} : CopyGroup{true, pieces - 1};
}
/// The number of the group that scatters a piece.
constexpr int scattering_group(int piece) { return piece == 0 ? 0 : 2 * piece - 1; }
static_assert(copy_group(0, 1) == CopyGroup{false, 0} && copy_group(1, 1) == CopyGroup{true, 0});
static_assert(copy_group(1, 3) == CopyGroup{false, 1} && copy_group(2, 3) == CopyGroup{true, 0} && copy_group(5, 3) == CopyGroup{true, 2});

/// Tells `sink` what one rank does in a call, in the order in which it is enqueued. On the copying stream: copy, meet, tell, and
/// follow(g), which waits until group g is consumed. On the caller's: open, sum, take, await, and consumed(g), which marks that point. `fork` lets
/// the copying stream wait for the caller's, `join` the caller's for the copying one.
template <typename Sink>
void walk_copies(int ranks, int pieces, Sink& sink) {
  sink.open();
  sink.fork();
  const int last = copy_groups(pieces) - 1;
  for (int g = 0; g < last; ++g) {
    const CopyGroup group = copy_group(g, pieces);
    if (group.gathers) sink.follow(scattering_group(group.piece));
    for (int round = 1; round < ranks; ++round) sink.copy(g, group, round);
    if (g >= 2) sink.follow(g - 2);
    sink.meet(g);
    sink.join();
    if (!group.gathers) sink.sum(g, group);
    for (int round = 1; group.gathers && round < ranks; ++round) sink.take(g, group, round);
    sink.consumed(g);
  }
  // Nothing comes after the last group to hide behind: each copy of it is told of and taken by itself.
  const CopyGroup group = copy_group(last, pieces);
  sink.follow(scattering_group(group.piece));
  for (int round = 1; round < ranks; ++round) {
    sink.copy(last, group, round);
    sink.tell(last, round);
    sink.join();
    sink.await(last, round);
    sink.take(last, group, round);
  }
}

/// Bytes from here to there, perhaps none.
struct CopySpan {
  const std::byte* from = nullptr;
  std::byte* to = nullptr;
  std::size_t bytes = 0;
};

/// One rank's part of a two-shot all-reduce whose chunks are cut in pieces.
class CutCall {
 public:
  int ranks() const { return ranks_; }
  int pieces() const { return pieces_; }
  int peer(int round) const { return (rank_ + round) % ranks_; }
  int sender(int round) const { return (rank_ + ranks_ - round) % ranks_; }

 protected:
  /// `plan.tile_bytes` is the length of a piece, and of a slot.
  CutCall(const RankContext& context, const Call& call, const Plan& plan, const Program& program);

  /// A piece of a chunk: its first byte in the chunk, and how many it has.
  struct Extent {
    std::size_t first, bytes;
  };
  Extent extent(int chunk, int piece) const;
  const std::byte* input(int chunk, int piece) const { return static_cast<const std::byte*>(chunk_[static_cast<std::size_t>(chunk)].in) + extent(chunk, piece).first; }
  std::byte* output(int chunk, int piece) const { return static_cast<std::byte*>(chunk_[static_cast<std::size_t>(chunk)].out) + extent(chunk, piece).first; }
  /// What combines this rank's piece with those that `slot_of` gives of the others.
  template <typename SlotOf>
  kernels::CopySumArgs sum_of(int piece, SlotOf slot_of) const {
    kernels::CopySumArgs args = sum_without_slots(piece);
    for (int rank = 0; rank < ranks_; ++rank)
      if (rank != rank_) args.operand[rank] = slot_of(rank);
    return args;
  }
  /// Which of a rank's lanes for its peers is this one's.
  static std::size_t lane(int rank, int peer) { return static_cast<std::size_t>(peer < rank ? peer : peer - 1); }

  const RankContext& context_;
  int rank_, ranks_;
  std::size_t piece_bytes_;

 private:
  kernels::CopySumArgs sum_without_slots(int piece) const;

  int pieces_ = 1;
  std::size_t element_;
  ReduceOp op_;
  std::array<kernels::Region, max_ranks> chunk_{};  ///< by owner
};

/// Where everything of one rank's call lies.
class CopyCall : public CutCall {
 public:
  CopyCall(const RankContext& context, const Call& call, const Plan& plan, const Program& program);

  /// What round `round` copies into its peer's slot.
  CopySpan copy(int g, CopyGroup group, int round) const;
  /// What a gathering group's round has brought, from the slot to the output.
  CopySpan take(int g, CopyGroup group, int round) const;
  /// What combines this rank's piece with the operands in its slots.
  kernels::CopySumArgs sum(int g, CopyGroup group) const;

 private:
  std::byte* slot(int rank, int g, int sender) const;
};

}  // namespace collectives
