#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/program_room.hpp"
#include "planner/schedule.hpp"

namespace collectives {

/// What a rank's program may need at most, over all algorithms and 1 to 16 ranks: ring and two-shot on 16 ranks have 31 steps and
/// 30 transfers each way.
inline constexpr int max_steps = 32;
inline constexpr int max_edges = 64;  ///< receives and sends of a rank together
inline constexpr int max_chunks = 256;  ///< of a schedule; a rank's own steps touch at most max_steps of them

/// One end of a transfer, seen from a rank. Every transfer of a schedule is a lane of its own: a flag word with the receiver, a credit
/// word with the sender, and a row of slots with one of the two. With the receiver, the row is the lane's alone, and the sender writes
/// there. With the sender it is *offered*: the step that sends writes it once, and all its receivers that reach that memory read there, each
/// told by its flag and giving its credit, so that it is written again when all have read it.
/// A rank has two memories, its pool and its part of common memory, which all ranks reach. They may be one: rows are numbered through both. What
/// is offered out of a pool is *pulled*.
struct Edge {
  std::uint8_t peer = 0;
  std::uint8_t lane = 0;    ///< which of the receiver's incoming transfers this is
  std::uint8_t credit = 0;  ///< which of the sender's outgoing transfers this is
  std::uint8_t row = 0;     ///< which of the rows of slots of the rank that has them
  bool common = false;      ///< the slots are in common memory, else in a pool
  bool offered = false;     ///< the slots are the sender's, else the receiver's
  bool operator==(const Edge&) const = default;

  /// Are flag and credit in common memory? With what is pulled they are, for each rank polls its own words.
  bool tells_in_common() const { return common || offered; }
};

/// Where a step takes this rank's own operand from.
enum class Own : std::uint8_t { none, input, output };

/// What a rank does with one chunk at one time: take what `receives` bring, combine it with its own operand in ascending
/// order of rank, pass the result to `sends`, keep it if `store`.
struct Step {
  std::uint8_t chunk = 0;
  Own own = Own::none;
  bool store = false;          ///< write the result to the output
  bool complete = false;       ///< this step's combining makes the result whole: an average is divided here
  std::uint8_t delay = 0;      ///< works on tile i - delay in iteration i, which overlaps the rounds of neighbouring tiles
  std::vector<Edge> receives;  ///< ascending by peer
  std::vector<Edge> sends;     ///< in the order they are issued: rank+1, rank+2, ... so that no receiver is swamped
};

/// Does an earlier one of a step's sends put the result into the very slots of this one?
bool repeats(const Step& step, std::size_t send);

/// Where slots lie: by sender, a bit for each receiver. Empty for none.
struct SlotPlaces {
  std::vector<RankMask> common{};   ///< Edge::common
  std::vector<RankMask> offered{};  ///< Edge::offered
};

/// A schedule as one rank runs it. With T tiles, call number e (epoch) of every block does:
/// ```
/// send header(e) to every peer
/// for i in 0 .. T + max delay - 1: for step in steps, in order:
///   t = i - step.delay; skip unless 0 <= t < T
///   for each send:    if T > stages and t >= stages: wait until credit[send.credit] >= (e, t - stages + 1)
///   for each receive: wait until slot (e & 1, row, t % stages) holds tile t    (flagged: data[lane] >= (e, t + 1))
///   read the slots (sentinel: and empty them), combine, write the slots of the sends, each once, store
///   flagged:      signal data[lane] = (e, t + 1) at each receiver
///   T > stages:   signal credit[receive.credit] = (e, t + 1) at each sender
/// wait for header(e) of every peer
/// ```
/// Only the flagged wire offers: a sentinel's slot is polled and emptied by its reader, which is for its owner, and one reader. The headers
/// prove, for any schedule, that every peer has finished call e-1 when call e ends here, so the two halves of the slots (e & 1) need
/// nothing else across calls.
struct Program {
  int rank = 0;
  int ranks = 0;
  int chunks = 1;
  int lanes = 0;    ///< the most incoming transfers of any rank
  int credits = 0;  ///< the most outgoing transfers of any rank
  int rows = 0;     ///< of slots of any rank, the most: slots are laid out for this many in all memories
  bool offers = false;  ///< any rank does
  int max_delay = 0;
  int min_stages = 2;  ///< where tiles > stages, fewer stages than this may deadlock; the same on every rank
  std::vector<Step> steps;
  std::vector<std::uint32_t> bounds{};  ///< chunk c has the weights from bounds[c] to bounds[c + 1]; one more than chunks
  std::vector<RankMask> givers{};       ///< of each chunk
  std::vector<RankMask> takers{};       ///< of each chunk
};

/// Where chunk c of a message of `packs` begins; it ends where the next one begins. Chunks may be empty.
std::size_t chunk_begin(const Program& program, std::size_t packs, int chunk);
std::size_t longest_chunk(const Program& program, std::size_t packs);

/// A program for each rank. Receives that are not sent on before the next one are merged into one step, so their operands are combined in
/// ascending order of rank together. Steps come in ascending order of delay: every push of a round is issued before the first wait of a
/// later one. Throws Error(invalid_argument) for a schedule that is out of range, takes and combines a chunk in one round, sends what it
/// does not have, or needs more than max_steps, max_edges or max_lanes.
std::vector<Program> lower(const Schedule& schedule, const SlotPlaces& places = {});

}  // namespace collectives
