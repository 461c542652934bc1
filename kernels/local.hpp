#pragma once

#include <collectives/types.hpp>
#include <cstddef>
#include <cstdint>

// What touches this rank's memory alone.
namespace collectives::kernels {

/// Enqueues `count` elements of `size` bytes (1, 2, 4 or 8), all with these bits.
void launch_local_fill(void* out, std::size_t count, std::uint64_t bits, int size, Stream stream);

/// Loads the kernels on the current device.
void preload_local();

}  // namespace collectives::kernels
