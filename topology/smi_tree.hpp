#pragma once

#include <collectives/topology.hpp>

#include "topology/smi_matrix.hpp"

namespace collectives {

/// Adds to a machine of `matrix.gpus.size()` GPU nodes, and nothing else, the switches, host bridges, NUMA nodes and NVLinks
/// that explain a matrix of paths.
void add_tree(Machine& machine, const SmiMatrix& matrix);

/// The same where nothing is known: every GPU in a slot of one host bridge.
void add_plain_tree(Machine& machine);

}  // namespace collectives
