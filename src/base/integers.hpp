#pragma once

#include <cstddef>

namespace collectives {

/// What indexes a vector by a rank, node or device; none of them is negative where this is asked.
constexpr std::size_t at(int index) { return static_cast<std::size_t>(index); }

constexpr std::size_t divide_up(std::size_t a, std::size_t b) { return (a + b - 1) / b; }

}  // namespace collectives
