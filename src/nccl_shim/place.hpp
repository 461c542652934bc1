#pragma once

#include <collectives/types.hpp>
#include <cstddef>
#include <vector>

namespace collectives {

// Where the ranks' memory is: on GPUs, or on the host where there is none. place_cuda.cpp or place_host.cpp.

/// The calling thread's current device; 0 on the host.
int current_device();
/// Makes `device` current for the calling thread.
void use_device(int device);

/// Memory that a rank on the current device can work on. 0 bytes give null.
void* allocate_place(std::size_t bytes);
void free_place(void* memory);

/// Lets `stream` wait for what is enqueued on `others`, and lets them wait for what is enqueued on it. All of `device`.
void join_streams(int device, Stream stream, const std::vector<Stream>& others);
void fork_streams(int device, Stream stream, const std::vector<Stream>& others);

}  // namespace collectives
