#pragma once

#include <vector>

#include "planner/limits.hpp"
#include "planner/schedule.hpp"
#include "planner/walk.hpp"

namespace collectives {

/// What a family of kernels adds to what the fabric takes.
struct KernelCosts {
  double call_us = 0;                   ///< beside the fabric's launch
  double round_us = 0.1;                ///< a round's instructions: poll, barrier, address
  double transfer_us = 0.15;            ///< each peer that is stored to and polled in a round
  double tile_transfer_us = 0.15;       ///< the same for every further tile
  double tile_step_us = 0;              ///< each step of a rank, for every further tile
  double tiled_us = 0;                  ///< once, if there are further tiles: another kernel, which does more before it stores
  double relay_us = 0.6;                ///< from the last poll of a round to the stores of the next
  double pull_us = 0;                   ///< each tile in a round in which some rank reads what another has for it
  double combine_us_per_byte = 0.6e-6;  ///< an operand is polled, added and cleared in local memory
  bool walks = false;                   ///< a block does one step after the other, so further tiles take as long as a walk of all steps
  bool by_packs = false;                ///< a rank passes on each pack when it comes, so the rounds of the first tile overlap
};

/// The direct kernels on 4 H200: one-shot takes 2.6 us for 8 KB and 3.2 for 64 KB, two-shot 6.8 for 512 KB and 1168 for 256 MB. An
/// iteration of the streamed kernel once cost 0.6, 1.0 and 2.0 us beside its transfers on 2, 3 and 4 of them (perf/results), where it
/// stores to 2, 4 and 6 slots: half of that is left. On two ranks one-shot so takes 17.0 us for 4 MB and two-shot 17.3, for 8 MB 31.0 and 29.9,
/// where only combining tells them apart.
inline constexpr KernelCosts direct_kernels{.tiled_us = 1.2};
/// The direct kernels whose slots hold all tiles: what they do beside sending hides behind it. 2, 4, 8 and 16 MB take two H200 9.05, 15.1, 26.8
/// and 51.5 us.
inline constexpr KernelCosts roomy_kernels{.call_us = 0.9, .tile_transfer_us = 0, .combine_us_per_byte = 0};
/// The direct kernels for every type and operation: instructions of many ways, the longer path of each pack, but what an iteration costs hides behind its stores. Of integers and doubles one-shot takes 4 H200 4.1,
/// 5.8 and 8.2 us for 1, 64 and 256 KB, two-shot 12.6, 82 and 1165 for 1, 16 and 256 MB.
inline constexpr KernelCosts reduce_kernels{.call_us = 0.4, .transfer_us = 0.55, .tile_transfer_us = 0, .relay_us = 1.0};
/// The walker of programs: 8 KB in one round to three peers of 4 H200 take it 5.7 us (kernels/README.md), 0.8 of which its headers'
/// fence may cost. Its further tiles were not measured: they are given what the direct kernels once took.
/// A tile that is read over the link is told of through host memory: its sender's fence and flag, the reader's look at it and its loads come one
/// after the other, and nothing hides them, for a block does one step at a time. A ring of two H200 takes 26 us for 256 KB in one tile and
/// 195 for 16 MB in seven, where everything else takes 12 and 68.
inline constexpr KernelCosts general_kernels{.call_us = 0.8, .transfer_us = 0.9, .tile_transfer_us = 0.3, .relay_us = 1.0, .pull_us = 8.5};
/// The walker on GPUs. What it takes for further tiles is its steps' stores and loads, one after the other, and what lies between two of them. Packed trees over
/// sentinels on a chain of four H200 take 932 us for 64 MB in 20 tiles of 7 steps, of which stores and loads are 717; the links could carry it in 390.
inline constexpr KernelCosts sentinel_walkers{.call_us = 0.8, .transfer_us = 0.9, .tile_transfer_us = 0, .tile_step_us = 1.2, .relay_us = 1.0, .pull_us = 8.5, .walks = true, .by_packs = true};
/// Over flags a step also waits for them, fences and signals. Two-shot of 256 MB in 2, 3 and 4 ranks' slots on NVLink takes 1698, 3166 and 6400 us, in 105, 148 and 249
/// tiles of 3, 5 and 7 steps: 3.0 us a step beside its stores each time.
inline constexpr KernelCosts flagged_walkers{.call_us = 0.8, .transfer_us = 0.9, .tile_transfer_us = 0, .tile_step_us = 3.0, .relay_us = 1.0, .pull_us = 8.5, .walks = true};

/// The walker where each round has a crew of blocks to itself, over flags in host memory: what is written before a flag is fenced, the
/// flag is seen and only then is anything read. What is combined is read over the bus. 16 and 64 MB in 16 and 64 tiles take four H200 140
/// and 420 us more than their loads do: 7 to 9 us a tile of six transfers.
inline constexpr KernelCosts crew_kernels{.call_us = 0.8, .round_us = 3.5, .transfer_us = 0.3, .tile_transfer_us = 1.1, .relay_us = 0, .combine_us_per_byte = 0};

/// A schedule's demands on a fabric, from which its time for any message follows: a fluid model with a latency for every round. The
/// first tile passes the rounds one after the other, each as long as its busiest limit takes; behind it all rounds are under way
/// at once, and the busiest limit over the whole schedule sets the pace.
struct Cost {
  int rounds = 0;
  int pulled_rounds = 0;            ///< of these, in which some rank reads what another has for it
  double latency_us = 0;            ///< the call itself and the slowest link of every round
  double transfers = 0;             ///< that the busiest rank of each round sends or receives, over all rounds
  double first_us_per_byte = 0;     ///< of the message, while its only tile passes the rounds
  double steady_us_per_byte = 0;    ///< while tiles follow each other
  double load_us_per_byte = 0;      ///< the same without what fanning out costs: a bound holds for this one
  double combined_share = 0;        ///< the most operands that any rank combines, in messages
  double sent_share = 0;            ///< the most that any rank sends, in messages
  int busiest = 0;                  ///< the limit that sets the pace
  Walk walk{};                      ///< of the programs that it was lowered to, if it was

  /// Of a message that comes in this many tiles.
  double predicted_us(double bytes, double tiles, const KernelCosts& kernels) const;

 private:
  double instructions_us(double tiles, const KernelCosts& kernels) const;
};

/// What `cost.busiest` means on the fabric, whose limits `limits` are: "nothing" if nothing moves.
std::string name_of_busiest(const Cost& cost, const Limits& limits, const Fabric& fabric);

/// The schedule must be for as many ranks as the fabric has, or Error(invalid_argument). `limits` are the fabric's,
/// which say whether values are offered.
Cost cost_of(const Schedule& schedule, const Fabric& fabric, const Limits& limits);

/// The same for many schedules on one fabric, in a microsecond or two each. Both must outlive it. For one thread at a time.
class Coster {
 public:
  Coster(const Fabric& fabric, const Limits& limits);
  Cost of(const Schedule& schedule);

 private:
  /// What some transfers load onto each limit, in messages.
  struct Load {
    std::vector<double> plain;
    std::vector<double> strained;  ///< where fanning out through a root costs bandwidth
    std::vector<double> staged;    ///< the part that is offered in host memory
  };

  void begin(const Schedule& schedule);
  void add_round(const std::vector<Transfer>& round, Cost& cost);
  void load(const Transfer& transfer);
  bool is_offered_again(const Transfer& transfer);
  bool is(int limit, ResourceKind kind) const;
  double write_then_read_us() const;
  int end_round();

  const Fabric& fabric_;
  const Limits& limits_;
  int chunks_ = 0;
  std::vector<double> shares_;  ///< of the chunks
  Load total_;
  Load round_;
  std::vector<int> touched_;  ///< the limits that a round loads
  std::vector<int> fans_;     ///< peers that a rank stores one chunk to through a root in a round, [rank * chunks + chunk]
  std::vector<bool> offered_; ///< through host memory in this round, [rank * chunks + chunk]
  std::vector<int> sent_;     ///< by rank, transfers of a round
  std::vector<int> received_;
  std::vector<double> sent_share_;  ///< by rank, messages of all rounds
  std::vector<double> combined_share_;
};

}  // namespace collectives
