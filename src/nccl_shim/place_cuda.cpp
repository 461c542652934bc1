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
