#pragma once

#include <array>
#include <cstddef>

#include "team.hpp"

namespace transformer {

/// Where an error comes closest to its bound, or exceeds it.
struct Worst {
  double ratio = 0;  ///< error / bound; not finite where a value is not
  double error = 0;
  double bound = 0;
  int layer = -1;
  int rank = 0;
};

/// How far two runs' outputs are apart: RMS of the difference over the RMS of the second.
struct Drift {
  double value = 0;
  double bound = 0;

  bool passed() const { return value <= bound; }
};

/// How N ranks compare with one rank that has the whole weights.
struct Verdict {
  std::array<Worst, stage_count> stages{};  ///< of the stages that are compared: `is_compared`
  std::size_t unequal = 0;                  ///< elements of the residual in which a rank differs from rank 0
  bool replays_alike = true;                ///< a captured step gave the bits of an eager one
  Drift drift;                              ///< from one rank's own output

  bool passed() const;
};

constexpr bool is_compared(Stage stage) {
  return stage == Stage::qkv || stage == Stage::context || stage == Stage::middle || stage == Stage::activation || stage == Stage::output;
}

/// Runs the batch on both. `alone` has one rank, everything else as `team`.
///
/// Stage by stage: one rank computes every stage from what the ranks had before it, so that the difference is what one stage's own
/// roundings make, and the bound a worst case: nothing is assumed of how roundings fall. u = 2^-8 is bf16's unit roundoff, g(k) =
/// k v / (1 - k v) with v = 2^-23 covers k fp32 additions in any order, by hardware that cuts where IEEE rounds. |n|, |a| are
/// 2-norms of a token's row; every row of a matrix with values within sqrt(3/columns) has a norm of sqrt(3) at most.
///  - qkv: each run rounds a sum off by g(hidden) sqrt(3) |n| to bf16, then what is rotated once more. With r the length of the pair
///    that rotates together: 4 u r + sqrt(8) g sqrt(3) |n|; values, which do not rotate: 2 u |v| + 2 g sqrt(3) |n|.
///  - context: no difference at all where both runs use the same loop a head. Else scores differ by 2 e, e = g(head_dim + 1) |q| |k| /
///    sqrt(head_dim), weights in proportion by 4 e and their own rounding: V (4 e + 2 u + 4 g(length)) + 2 u |c|, V the largest |value|.
///  - activation = silu(gate) up: gate and up differ as values do, by d = 2 u |.| + 2 g sqrt(3) |n|; |silu'| <= 1.1:
///    1.1 d_gate (|up| + d_up) + |silu(gate)| d_up + 2 u |activation|.
///  - residuals: N partial sums p are rounded, then the total (by a ring or tree up to N-1 times more), then the residual:
///    u h sum|p| + u (|y_N| + |y_1|) + u (|x_N| + |x_1|) + 2 g(columns) sqrt(3) |a| + N v sum|p|; h = 1, or N with a ring or tree.
/// Terms of second order are covered by 1/64 more.
///
/// End to end, a worst case would grow by the square root of the row length with every product and say nothing. Drift's is a
/// statistical one: twice the RMS that independent roundings give. A bf16 rounding has a mean square of c = 0.18 u^2 relative to the
/// value. Where a half of a layer adds y to x, with q = |y|^2/|x|^2 as one rank has it: joining rounds partial sums (c q) and two totals
/// (2 c q), the two runs round their residuals (2 c (1 + q)) and, once their inputs differ, at most six values on the way (12 c q);
/// what x had drifted goes through norm, products and either softmax or silu(gate) up with a gain of at most 3 in mean square:
///   drift^2 <- (drift^2 (1 + 3 q) + c (15 q + 2 (1 + q))) / (1 + q).
Verdict check(Team& team, Team& alone, const Batch& batch);

/// End to end alone, with `alone` on another engine: loops on a CPU know nothing of a GPU's kernels.
Drift drift_from(Team& alone, Team& team, const Batch& batch);

}  // namespace transformer
