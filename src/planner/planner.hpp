#pragma once

#include <collectives/plan.hpp>
#include <cstddef>
#include <optional>
#include <vector>

#include "planner/program.hpp"
#include "topology/fabric.hpp"

namespace collectives {

/// Beside the fabric, all that a plan depends on. The same on every rank.
struct PlannerOptions {
  std::optional<AlgorithmChoice> forced;
  std::optional<Wire> wire;
  bool invariant = false;      ///< direct algorithms only
  std::size_t sentinel_slot_bytes = 0;  ///< of one half of the slots for sentinels in a pool
  std::size_t flagged_slot_bytes = 0;   ///< of one half of those for flagged packs
  int max_blocks = 0;          ///< 0: no limit beside the fabric's
};

/// A schedule lowered and proved, with its cost on a fabric as a line over the message size.
struct Routine {
  AlgorithmChoice choice;
  Schedule schedule;
  std::vector<Program> programs;
  double fixed_us = 0;
  double us_per_byte = 0;
  double sent_share = 0;  ///< the most that any rank sends, in messages

  double predicted_us(std::size_t bytes) const { return fixed_us + us_per_byte * static_cast<double>(bytes); }
};

/// Does every chunk meet all its operands in one step, so that its bits depend on nothing but the inputs?
constexpr bool is_direct(Algorithm algorithm) { return algorithm == Algorithm::one_shot || algorithm == Algorithm::two_shot; }

/// Chooses. A pure function of its arguments: every rank that asks gets the same plan.
class Planner {
 public:
  /// Builds, verifies and costs every algorithm for this fabric: the six, the k-ary trees of 3 and 4, and what is forced.
  /// Throws Error(internal) if one does not verify, Error(invalid_argument) for a forced one that does not exist, has an arity
  /// outside 1 to 15, or is not direct where `invariant` asks for that.
  Planner(Fabric fabric, PlannerOptions options);

  Plan all_reduce(std::size_t count, DataType type, ReduceOp op) const;
  PlanReport explain(std::size_t count, DataType type, ReduceOp op) const;

  /// The program of a plan's algorithm for each rank. Throws Error(invalid_argument) for one that was not built.
  const Routine& routine(AlgorithmChoice choice) const;
  const Fabric& fabric() const { return fabric_; }

 private:
  bool allows(AlgorithmChoice choice) const;
  const Routine& select(std::size_t bytes) const;

  Fabric fabric_;
  PlannerOptions options_;
  std::vector<Routine> routines_;
};

}  // namespace collectives
