#pragma once

#include <collectives/types.hpp>
#include <cstddef>
#include <memory>
#include <optional>
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

/// Times what is enqueued on a stream, by events that are read when they have passed: nothing waits for it. One at a time.
class StreamTimer {
 public:
  virtual ~StreamTimer() = default;
  /// What is enqueued from now to `end` is timed. False, and nothing is, if the last pair has not passed or the stream is captured.
  virtual bool begin(Stream stream) noexcept = 0;
  virtual void end(Stream stream) noexcept = 0;
  /// Microseconds of the last pair, once, when it has passed.
  virtual std::optional<double> take_us() noexcept = 0;
};
/// On `device`; null on the host, where calls run in threads and not on streams.
std::unique_ptr<StreamTimer> make_stream_timer(int device);

/// Lets `stream` wait for what is enqueued on `others`, and lets them wait for what is enqueued on it. All of `device`.
void join_streams(int device, Stream stream, const std::vector<Stream>& others);
void fork_streams(int device, Stream stream, const std::vector<Stream>& others);

}  // namespace collectives
