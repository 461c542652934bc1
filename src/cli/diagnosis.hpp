#pragma once

#include <collectives/verify.hpp>
#include <string>
#include <vector>

#include "cli/command.hpp"

namespace cli {

/// All that a doctor looked at.
struct Examination {
  collectives::Machine machine;  ///< as it is claimed
  collectives::Surroundings surroundings;
  collectives::Verification verification;
  int ranks = 0;                                        ///< of the all-reduces
  std::vector<collectives::AllReduceCheck> all_reduce;  ///< as the library would do them
  std::vector<collectives::AllReduceCheck> control;     ///< the same through host memory; none without a GPU
  std::vector<collectives::StageTime> times;            ///< of the looking, its sum last
};

/// Something that is wrong, or slower than it could be, and what may be done.
struct Finding {
  std::string what;
  std::string remedy;  ///< empty if none is known
  bool operator==(const Finding&) const = default;
};

struct Diagnosis {
  Exit exit = Exit::healthy;
  std::vector<Finding> findings;  ///< the worst first
};

/// A hang weighs more than wrong data, wrong data more than what could not be tried. Where the control itself fails, nothing is
/// said of links by an all-reduce that fails, too; where it hangs, that is a hang.
Diagnosis diagnose(const Examination& examination);

std::string to_text(const Examination& examination, const Diagnosis& diagnosis);
std::string to_json(const Examination& examination, const Diagnosis& diagnosis);

}  // namespace cli
