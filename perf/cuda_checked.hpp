#pragma once

#include <cuda_runtime_api.h>

#include <source_location>

namespace perf {

/// Throws Error(device) with CUDA's words and where it was called, unless `result` is cudaSuccess.
void checked(cudaError_t result, std::source_location where = std::source_location::current());

/// A stream that does not wait for the null stream, of the greatest priority or of the usual one.
class OwnedStream {
 public:
  explicit OwnedStream(bool urgent = false) {
    int least = 0, greatest = 0;
    checked(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    checked(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, urgent ? greatest : 0));
  }
  ~OwnedStream() { cudaStreamDestroy(stream_); }
  OwnedStream(const OwnedStream&) = delete;
  OwnedStream& operator=(const OwnedStream&) = delete;
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

/// An event that takes the time.
class OwnedEvent {
 public:
  OwnedEvent() { checked(cudaEventCreate(&event_)); }
  ~OwnedEvent() { cudaEventDestroy(event_); }
  OwnedEvent(const OwnedEvent&) = delete;
  OwnedEvent& operator=(const OwnedEvent&) = delete;
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

/// Microseconds between two events that have come.
inline double elapsed_us(const OwnedEvent& from, const OwnedEvent& to) {
  float ms = 0;
  checked(cudaEventElapsedTime(&ms, from.get(), to.get()));
  return ms * 1000.0;
}

/// Until `stream` of the current device is empty. Throws Error(timeout) after `deadline_s`.
void wait_for(cudaStream_t stream, double deadline_s);

}  // namespace perf
