#pragma once

#include <collectives/plan.hpp>
#include <cstddef>
#include <memory>
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

/// Lowers, verifies and costs a schedule. Throws Error(internal) if it does not verify.
Routine make_routine(AlgorithmChoice choice, Schedule schedule, const Fabric& fabric);

class Repertoire;

/// Chooses. A pure function of its arguments: every rank that asks gets the same plan.
class Planner {
 public:
  /// Builds, verifies and costs every algorithm for this fabric: the six, the k-ary trees of 3 and 4, and what is forced.
  /// Throws Error(internal) if one does not verify, Error(invalid_argument) for a forced one that does not exist, has an arity
  /// outside 1 to 15, or is not direct where `invariant` asks for that.
  Planner(Fabric fabric, PlannerOptions options);
  Planner(Planner&&) noexcept;
  Planner& operator=(Planner&&) noexcept;
  ~Planner();

  /// Any collective. Those other than all_reduce build their routines when they are first asked for, under a lock.
  Plan plan(const PlanRequest& request) const;
  PlanReport explain(const PlanRequest& request) const;
  /// What `rank` runs for a plan that was made for `request`. Lives as long as this planner.
  const Program& program(const PlanRequest& request, const Plan& plan, int rank) const;

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
  std::unique_ptr<Repertoire> others_;
};

}  // namespace collectives
