#pragma once

#include <collectives/plan.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

// What calls took on the machine itself. The model's figures stand beside: between sizes that were measured its shape is kept, and beyond
// them it is as wrong as at the last. A table only says which of the planner's own candidates are fast, never what they are.
namespace collectives {

/// Calls that choose among the same candidates: what one of them took says what others take.
struct CallKind {
  Collective collective = Collective::all_reduce;
  bool direct = false;    ///< direct kernels may take it
  bool sentinel = false;  ///< it reduces a type of which a word may stand for "empty"
  bool operator==(const CallKind&) const = default;
};

struct TimedSize {
  std::uint64_t bytes = 0;  ///< of the whole message
  std::uint64_t measured_ns = 0;
  std::uint64_t modelled_ns = 0;
  bool operator==(const TimedSize&) const = default;
};

/// One candidate over its sizes, smallest first, at least one.
struct TimedPlan {
  CallKind kind;
  AlgorithmChoice choice;
  bool through_host = false;
  std::vector<TimedSize> sizes;
  bool operator==(const TimedPlan&) const = default;

  /// By how much the model's figure for so many bytes must be multiplied.
  double correction(std::size_t bytes) const;
  /// What was measured at this very size; null if nothing was.
  const TimedSize* at(std::size_t bytes) const;
};

struct Timings {
  std::int64_t taken_at = 0;  ///< seconds since 1970
  std::vector<TimedPlan> plans;
  bool operator==(const Timings&) const = default;

  /// Null if it was never measured.
  const TimedPlan* find(CallKind kind, AlgorithmChoice choice, bool through_host) const;
  void record(CallKind kind, AlgorithmChoice choice, bool through_host, TimedSize size);
  /// Every size of this kind at which something was measured, smallest first.
  std::vector<std::size_t> sizes_of(CallKind kind) const;
};

/// One line of text, and back. Throws Error(invalid_argument) for any other text.
std::string to_text(const Timings& timings);
Timings timings_from_text(std::string_view text);

}  // namespace collectives
