#pragma once

#include <collectives/types.hpp>

#include "perf/data.hpp"

namespace perf {

/// Device memory, on `stream` of the current device: what `fill`, `count_wrong` and `count_altered` do on the host. Counts are
/// added to `*total`, which the device can write. Each returns the launch's cudaError_t.
int launch_fill(void* data, std::size_t count, const Payload& payload, int rank, collectives::Stream stream);
int launch_count_wrong(const void* data, std::size_t count, const Payload& payload, int rank, unsigned long long* total,
                       collectives::Stream stream);
int launch_count_altered(const void* data, std::size_t bytes, std::uint8_t value, unsigned long long* total, collectives::Stream stream);

}  // namespace perf
