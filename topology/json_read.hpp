#pragma once

#include <collectives/topology.hpp>

#include "topology/json_text.hpp"

namespace collectives {

inline constexpr int machine_file_format = 1;

/// Throws Error(invalid_argument) with line, column and what was expected.
Machine read_machine(const JsonText& text);

}  // namespace collectives
