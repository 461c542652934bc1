#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "planner/program.hpp"

namespace collectives {

/// The synchronisation of a program, each kind of which can be left out to seed a fault.
enum class Sync : std::uint8_t { none, data_wait, data_signal, credit_wait, credit_signal, header_wait, header_signal, crew_wait, crew_signal };

/// What is left out: one kind, of one edge of one step of one rank, or of all where -1. Edges count a step's receives for data
/// waits and credit signals, its sends for credit waits and data signals, and are ranks for headers, which belong to no step. What crews
/// tell each other belongs to a step and no edge.
struct Omission {
  Sync what = Sync::none;
  int rank = -1;
  int step = -1;
  int edge = -1;
};

/// What to run the programs against.
struct SymbolicRun {
  int tiles = 5;
  int stages = 2;
  int calls = 4;
  int halves = 2;       ///< slot halves alternated by epoch; 1 is a seeded fault
  int flag_halves = 2;  ///< the same of flags and credits
  bool headers = true;  ///< false is a seeded fault
  bool in_place = false;
  bool rank_order = false;  ///< also demand that one step combines all inputs, in the order of the ranks
  Wire wire = Wire::flagged;
  bool crews = false;  ///< a rank's rounds run beside each other, each tile one behind the other; ranks times rounds are at most max_ranks
  Omission omitted{};  ///< anything is a seeded fault
};

/// Runs the programs symbolically, call after call, as the comment on Program says, and returns an empty string or the first fault:
/// - every taker's output is every giver's input of this call, chunk and tile exactly once, an average divided once, and combined
///   by all ranks in the same order; nobody else's output is written; nothing reads poison, an input that was overwritten in place, or an output not
///   yet written, and no store is in vain;
/// - every conflicting pair of accesses to a slot, or of two crews to their rank's own memory, is ordered by happens-before. Flags, credits,
///   headers and the progress of crews order (release and acquire); a pack of the sentinel wire orders nothing but itself, and
///   emptying a slot is a write;
/// - nothing deadlocks, no index is out of bounds, a flag word has one writer a call and only grows, both ends of a lane agree.
/// One maximal run decides for all interleavings, since counters only grow and waits are thresholds.
std::string verify(const std::vector<Program>& programs, const SymbolicRun& options = {});

/// The same where the calls take turns: call c runs the programs number c modulo their count.
std::string verify_in_turn(const std::vector<std::vector<Program>>& turns, const SymbolicRun& options = {});

}  // namespace collectives
