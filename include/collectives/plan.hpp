#pragma once

#include <collectives/topology.hpp>
#include <collectives/types.hpp>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace collectives {

/// Who reduces what where. The numbers are part of the C interface.
enum class Algorithm : std::uint8_t { one_shot, two_shot, ring, binary_tree, kary_tree, balanced_tree, double_tree, packed_trees, island, copy_two_shot };
inline constexpr int algorithm_count = 10;

constexpr const char* name_of(Algorithm algorithm) {
  constexpr const char* names[] = {"one_shot",      "two_shot",    "ring",         "binary_tree", "kary_tree",
                                   "balanced_tree", "double_tree", "packed_trees", "island",      "copy_two_shot"};
  const int index = static_cast<int>(algorithm);
  return index < algorithm_count ? names[index] : "unknown";
}

/// How a reader knows that a pack has arrived: a word that no value uses is replaced (`sentinel`, floating types up to 32
/// bits), or a flag is released after the data (`flagged`, every type), or such words are taken out and told of beside the data (`escaped`, every
/// type, between GPUs that all reach each other).
enum class Wire : std::uint8_t { sentinel, flagged, escaped };

constexpr const char* name_of(Wire wire) { return wire == Wire::sentinel ? "sentinel" : wire == Wire::flagged ? "flagged" : "escaped"; }

/// An algorithm by name, with the arity of k-ary trees: `one_shot`, `kary_tree:3`. Arity is 2 where none is named.
struct AlgorithmChoice {
  Algorithm algorithm = Algorithm::one_shot;
  int arity = 2;
  bool operator==(const AlgorithmChoice&) const = default;
};

/// Throws Error(invalid_argument) that lists the names.
COLLECTIVES_EXPORT AlgorithmChoice parse_algorithm(std::string_view text);
COLLECTIVES_EXPORT std::string to_string(AlgorithmChoice choice);

/// Is a buffer of it one message, not a block for each rank?
constexpr bool is_one_message(Collective collective) {
  return collective == Collective::all_reduce || collective == Collective::broadcast || collective == Collective::reduce;
}

/// What a plan is made for: a call as far as its plan depends on it.
struct PlanRequest {
  Collective collective = Collective::all_reduce;
  /// Elements of the message; of one rank's block where a buffer has a block a rank, the largest where they differ.
  std::size_t count = 0;
  DataType type = DataType::float32;
  ReduceOp op = ReduceOp::sum;  ///< where the collective reduces
  int root = 0;                 ///< where it has one
  bool carried = false;         ///< an all-reduce of float32 that travels as `type`
  bool scaled = false;          ///< a ScaledSum
  bool uneven = false;          ///< the ranks' blocks differ in length
};

/// What one call will do. The same on every rank for the same call.
struct Plan {
  AlgorithmChoice choice;
  Wire wire = Wire::flagged;
  std::size_t bytes = 0;        ///< of the whole message: all blocks of the larger buffer
  int blocks = 1;               ///< thread blocks a rank, of each crew; 1 on the host
  int crews = 1;                ///< more than one: each round of the schedule has `blocks` blocks of its own
  int threads = 1;              ///< threads a block; 1 on the host
  std::size_t tile_bytes = 0;   ///< what a block moves of one chunk at a time
  int stages = 1;               ///< tiles of a lane that may be under way at once
  bool direct = false;          ///< by the kernels for GPUs that all reach each other, which know their number when they are compiled
  bool roomy = false;           ///< the slots hold all tiles, each of which is sent before the one before it is looked for
  bool wide = false;            ///< takes both halves of the slots, behind a barrier
  bool copies = false;          ///< copy engines move the data; blocks and threads are of the kernel that combines it
  bool through_host = false;    ///< what receivers could read out of their peers' memory goes through host memory, which is faster at this size
  double predicted_us = 0;
  bool measured = false;        ///< the prediction follows from what this algorithm took when the ranks were tuned
};

/// How a plan is laid over threads and slots: "It runs as 16 blocks of 64 threads a rank, sentinel wire, ...".
COLLECTIVES_EXPORT std::string how_it_runs(const Plan& plan);

/// One algorithm's place in a decision.
struct Candidate {
  AlgorithmChoice choice;
  int steps = 0;                 ///< rounds of its schedule
  double bytes_per_rank = 0;     ///< the most that any rank sends
  double predicted_us = 0;
  double traffic_us = 0;         ///< of these: what its traffic alone takes, without latency and instructions
  bool measured = false;         ///< `predicted_us` follows from what it took when the ranks were tuned
  double gap = 0;                ///< how much longer that is than the bound, if there is one: 0.05 is 5 %
  std::string busiest;           ///< the resource that its traffic waits for
  std::string note;              ///< why it was taken or passed over
};

/// In `round`, rank `from` sends its value of what `channel` carries to rank `to`, which combines it with its own or takes it.
struct Move {
  int round = 0;
  int channel = 0;
  int from = 0;
  int to = 0;
  bool reduces = false;
  Handover handover = Handover::push;
};

/// A plan with the reasons for it.
struct PlanReport {
  Plan plan;
  /// No traffic of this collective takes less here, whatever its latency, an all-reduce's none along trees: proved for this machine, or for its
  /// host memory if the plan goes through that; 0 if nothing is.
  double bound_us = 0;
  std::vector<Candidate> candidates;  ///< best first
  std::string explanation;            ///< a paragraph and a table for people
  std::vector<double> shares{};       ///< what each channel carries, as a part of the plan's bytes
  std::vector<Move> moves{};          ///< who sends what when, round by round; filled by `plan_call` and `plan_all_reduce`

  /// Is most of the plan's time no traffic? Then a bound on traffic says little of it.
  bool waits_for_latency() const { return 2 * candidates.front().traffic_us < candidates.front().predicted_us; }
};

/// What a call would do over these GPUs of `machine` (CUDA ordinals, rank by rank). Needs no GPU.
/// Throws Error(invalid_argument) for fewer than two or more than 16 ranks, a device the machine does not have, or a root that is no rank.
COLLECTIVES_EXPORT PlanReport plan_call(const Machine& machine, const std::vector<int>& devices, const PlanRequest& request);
/// The same of an all-reduce of `count` elements.
COLLECTIVES_EXPORT PlanReport plan_all_reduce(const Machine& machine, const std::vector<int>& devices, std::size_t count, DataType type,
                                              ReduceOp op);

}  // namespace collectives
