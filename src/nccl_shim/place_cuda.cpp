#include <collectives/error.hpp>
#include <cstdlib>
#include <new>

#include "base/cuda.hpp"
#include "nccl_shim/place.hpp"

namespace collectives {
namespace {

bool has_gpu() {
  static const bool found = cuda_device_count() > 0;
  return found;
}

/// While a stream is being captured, CUDA refuses to allocate in its thread unless told that this is meant.
class Uncaptured {
 public:
  Uncaptured() { cuda_check(cudaThreadExchangeStreamCaptureMode(&mode_)); }
  ~Uncaptured() { (void)cudaThreadExchangeStreamCaptureMode(&mode_); }
  Uncaptured(const Uncaptured&) = delete;
  Uncaptured& operator=(const Uncaptured&) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

class EventTimer final : public StreamTimer {
 public:
  explicit EventTimer(int device) : device_(device) {
    const DeviceScope scope(device_);
    for (auto* event : {&begin_, &end_}) {
      cudaEvent_t raw = nullptr;
      cuda_check(cudaEventCreate(&raw));
      event->reset(raw);
    }
  }

  bool begin(Stream stream) noexcept override {
    return attempt([&] {
      cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
      if (!went_well(cudaStreamIsCapturing(stream, &status)) || status != cudaStreamCaptureStatusNone || !passed()) return false;
      recorded_ = false;
      return went_well(cudaEventRecord(begin_.get(), stream));
    });
  }

  void end(Stream stream) noexcept override {
    (void)attempt([&] { return recorded_ = ended_ = went_well(cudaEventRecord(end_.get(), stream)); });
  }

  std::optional<double> take_us() noexcept override {
    float ms = 0;
    if (!recorded_ || !attempt([&] { return passed() && went_well(cudaEventElapsedTime(&ms, begin_.get(), end_.get())); })) return std::nullopt;
    recorded_ = false;
    return 1000.0 * static_cast<double>(ms);
  }

 private:
  /// A time that cannot be had, say because CUDA is going already, is no error of the call that was to be timed.
  template <typename Body>
  bool attempt(Body body) const noexcept {
    try {
      // Another thread may be capturing: asking an event must not end that.
      const Uncaptured uncaptured;
      const DeviceScope scope(device_);
      return body();
    } catch (...) {
      return false;
    }
  }

  static bool went_well(cudaError_t result) {
    if (result == cudaSuccess) return true;
    (void)cudaGetLastError();
    return false;
  }

  bool passed() const { return !ended_ || went_well(cudaEventQuery(end_.get())); }

  const int device_;
  CudaEvent begin_, end_;
  bool recorded_ = false;  ///< a pair that was not taken
  bool ended_ = false;     ///< any pair
};

}  // namespace

int current_device() {
  int device = 0;
  if (has_gpu()) cuda_check(cudaGetDevice(&device));
  return device;
}

void use_device(int device) {
  if (has_gpu()) cuda_check(cudaSetDevice(device));
}


void* allocate_place(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  void* memory = nullptr;
  if (has_gpu()) {
    const Uncaptured scope;
    cuda_check(cudaMalloc(&memory, bytes));
    return memory;
  }
  constexpr std::size_t page = 4096;
  if (bytes <= SIZE_MAX - page) memory = std::aligned_alloc(page, (bytes + page - 1) / page * page);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

void free_place(void* memory) {
  if (!has_gpu()) return std::free(memory);
  const Uncaptured scope;
  cuda_check(cudaFree(memory));
}

std::unique_ptr<StreamTimer> make_stream_timer(int device) {
  if (!has_gpu()) return nullptr;
  try {
    const Uncaptured scope;
    return std::make_unique<EventTimer>(device);
  } catch (const Error&) {
    return nullptr;  // the call that was to be timed goes on without
  }
}

void join_streams(int device, Stream stream, const std::vector<Stream>& others) {
  if (!has_gpu() || others.empty()) return;
  const DeviceScope scope(device);
  for (Stream other : others) {
    const CudaEvent event = make_event();
    cuda_check(cudaEventRecord(event.get(), other));
    cuda_check(cudaStreamWaitEvent(stream, event.get(), 0));
  }
}

void fork_streams(int device, Stream stream, const std::vector<Stream>& others) {
  if (!has_gpu() || others.empty()) return;
  const DeviceScope scope(device);
  const CudaEvent event = make_event();
  cuda_check(cudaEventRecord(event.get(), stream));
  for (Stream other : others) cuda_check(cudaStreamWaitEvent(other, event.get(), 0));
}

}  // namespace collectives
