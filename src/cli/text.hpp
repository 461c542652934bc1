#pragma once

#include <collectives/topology.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace cli {

/// Names come from files and drivers: nothing in them may steer the terminal.
std::string printable(std::string_view text);

/// "512 B", "64 KiB", "1.5 MiB"
std::string bytes_in_words(double bytes);

/// Three significant digits and no exponent.
std::string rounded(double value);

/// A row of words a line, columns as wide as their widest word; all but the first and, if `last_left`, the last aligned right.
std::string aligned(const std::vector<std::vector<std::string>>& rows, bool last_left);

/// GPU3, NUMA 0, or the name of what stands between them. GPUs that CUDA cannot see are unseen0, unseen1 ...
std::string label_of(const collectives::Machine& machine, int node);

}  // namespace cli
