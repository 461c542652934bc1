#pragma once

#include <string_view>

namespace collectives {

/// The compute capability of a GPU by its name, where a description holds no more than that; 0 for a name that is not known.
int chip_named(std::string_view name);

}  // namespace collectives
