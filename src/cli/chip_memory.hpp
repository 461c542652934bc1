#pragma once

#include <optional>
#include <string_view>

namespace cli {

/// What a chip's data sheet says of its memory: GB/s. By the name that the driver gives it; nothing for one that is not listed.
std::optional<double> memory_gb_per_s(std::string_view gpu_name);

}  // namespace cli
