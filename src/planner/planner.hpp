#pragma once

#include <collectives/plan.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "planner/cost.hpp"
#include "planner/program.hpp"
#include "planner/survey.hpp"
#include "planner/timings.hpp"
#include "topology/fabric.hpp"

namespace collectives {

/// What the direct kernels may do of a call; the rest is for the general ones.
enum class DirectForm : std::uint8_t { none, all_reduce, reduce_scatter, move, broadcast };

/// The part of a call that decides which kernel takes it.
struct Operation {
  DataType type;
  ReduceOp op;
  DirectForm form = DirectForm::all_reduce;
  bool scaled = false;  ///< operands are multiplied by a factor each
};

/// Beside the fabric, all that a plan depends on. The same on every rank.
struct PlannerOptions {
  std::optional<AlgorithmChoice> forced;
  std::optional<Wire> wire;
  bool invariant = false;               ///< direct algorithms only
  std::size_t sentinel_slot_bytes = 0;  ///< of one half of the slots for sentinels in a pool
  std::size_t flagged_slot_bytes = 0;   ///< of one half of those for flagged packs
  std::size_t copy_slot_bytes = 0;      ///< of all slots for copy engines together
  int max_blocks = 0;                   ///< 0: no limit beside the fabric's
  Timings timings{};                    ///< what was measured here, if anything
  bool through_host = false;            ///< the plans are those through host memory of ranks that could pull; set by Planner
};

/// So much more time a direct algorithm may take, in percent, before another is taken: what the model cannot tell apart goes to those
/// whose bits do not depend on the size.
inline constexpr double percent_for_direct = 10;

/// A schedule lowered and proved, with what it asks of a fabric.
struct Routine {
  AlgorithmChoice choice;
  Schedule schedule;
  std::vector<Program> programs;  ///< over any wire; over flags alone where some pair pulls
  std::vector<Program> offering;  ///< over flags, which let senders offer what goes through host memory; empty where that is the same
  Cost cost;
  Cost offering_cost;  ///< of `offering`

  const Cost& cost_over(Wire wire) const { return wire == Wire::flagged && !offering.empty() ? offering_cost : cost; }
  const std::vector<Program>& programs_over(Wire wire) const { return wire == Wire::flagged && !offering.empty() ? offering : programs; }
};

/// Lowers, verifies and costs a schedule for the surveyed fabric. Throws Error(internal) if it does not verify.
Routine make_routine(AlgorithmChoice choice, Schedule schedule, const Survey& survey);

/// The plan that does a routine for this many bytes of all chunks together, with its predicted time; nothing if its slots do not fit
/// the pool.
std::optional<Plan> plan_routine(const Routine& routine, std::size_t bytes, const Fabric& fabric, const PlannerOptions& options, Operation operation);

Operation operation_of(const PlanRequest& request, const PlannerOptions& options);
CallKind kind_of(Collective collective, Operation operation);
/// Corrects the model's prediction by what was measured of such calls, if anything was.
void correct(Plan& plan, CallKind kind, const PlannerOptions& options);

class Repertoire;

/// Chooses. A pure function of its arguments: every rank that asks gets the same plan.
class Planner {
 public:
  /// Surveys the fabric, and builds, verifies and costs for it: every algorithm, the k-ary trees of 3 and 4, islands where there are
  /// several of more than one rank, and what is forced.
  /// Throws Error(internal) if one does not verify, Error(invalid_argument) for a forced one that does not exist, has an arity
  /// outside 1 to 15, or is not direct where `invariant` asks for that; Error(unsupported) for copy engines on GPUs that do not all
  /// reach each other.
  Planner(Fabric fabric, PlannerOptions options);
  Planner(Planner&&) noexcept;
  Planner& operator=(Planner&&) noexcept;
  ~Planner();

  /// Any collective. Those other than all_reduce build their routines when they are first asked for, under a lock.
  Plan plan(const PlanRequest& request) const;
  PlanReport explain(const PlanRequest& request) const;
  /// What `rank` runs for a plan that was made for `request`. Lives as long as this planner.
  const Program& program(const PlanRequest& request, const Plan& plan, int rank) const;
  const Schedule& schedule(const PlanRequest& request, const Plan& plan) const;
  /// Every plan that the options allow, as the model alone predicts them.
  std::vector<Plan> candidates(const PlanRequest& request) const;
  /// Plans by these timings from now on. Before anybody else plans by this.
  void learn(const Timings& timings);

  /// The least predicted time of those that fit the slots. Throws Error(out_of_memory) if none does.
  Plan all_reduce(std::size_t count, DataType type, ReduceOp op) const;
  PlanReport explain(std::size_t count, DataType type, ReduceOp op) const;

  /// As a plan uses it.
  const Fabric& fabric(const Plan& plan) const { return planner_of(plan).fabric_; }
  /// The program of a plan's algorithm for each rank. Throws Error(invalid_argument) for one that was not built.
  const Routine& routine(AlgorithmChoice choice) const;
  const Fabric& fabric() const { return fabric_; }
  const PlannerOptions& options() const { return options_; }
  /// In how many parts at once a message from one rank to another may travel, up to `most`. The same on every rank.
  int mail_lanes(int most) const;
  /// How many thread blocks a rank's sends and receives may have: all of them run at once, beside those of other ranks on its GPU.
  int mail_blocks() const;
  /// Of the all-reduce's schedules, all of them, and of the timings: ranks whose digests differ would run schedules that do not fit together.
  std::uint64_t digest() const;
  /// Of what the model says of all-reduces of several sizes: another model's table of timings is none of ours.
  std::uint64_t model_digest() const;
  const Survey& survey() const { return survey_; }

 private:
  Planner(Survey survey, PlannerOptions options);

  bool allows(AlgorithmChoice choice) const;
  const Planner& planner_of(const Plan& plan) const { return plan.through_host ? *through_host_ : *this; }
  const Routine& routine_for(const PlanRequest& request, const Plan& plan) const;
  Plan choose(std::size_t count, Operation operation) const;
  Plan plan_here(const PlanRequest& request) const;
  PlanReport explain_here(const PlanRequest& request) const;
  std::string explain_timings(const PlanRequest& request) const;
  PlanReport explain_all_reduce(const PlanRequest& request) const;

  Survey survey_;
  Fabric fabric_;
  PlannerOptions options_;
  std::vector<Routine> routines_;
  std::unique_ptr<Repertoire> others_;
  std::unique_ptr<Planner> through_host_;  ///< the same ranks without pulls, if there are any
};

/// The slots of a pool that nothing bounds.
PlannerOptions usual_options(const Fabric& fabric);

/// For ranks on these GPUs of a machine (CUDA ordinals), with `usual_options`.
/// Throws Error(invalid_argument) for fewer than two or more than 16 ranks, or a device the machine does not have.
Planner planner_on(const Machine& machine, const std::vector<int>& devices);

}  // namespace collectives
