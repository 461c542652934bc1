#pragma once

#include <collectives/topology.hpp>
#include <string>

namespace cli {

/// NUMA nodes, what hangs below them by PCIe as indented text, and beside it what is joined by sockets and by NVLink.
std::string tree_text(const collectives::Machine& machine);

}  // namespace cli
