#pragma once

// What the flags, credits and progress words of a pool have room for, and what the planner therefore keeps a program to.
namespace collectives {

inline constexpr int max_lanes = 32;  ///< incoming transfers of a rank in a schedule, and outgoing ones
inline constexpr int max_crews = 4;   ///< rounds of a schedule that have blocks of their own

}  // namespace collectives
