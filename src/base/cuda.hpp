#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <memory>
#include <source_location>
#include <string>

namespace collectives {

/// Throws Error(device), or Error(out_of_memory), with CUDA's words and where it was called, unless `result` is cudaSuccess.
void cuda_check(cudaError_t result, std::source_location where = std::source_location::current());
void cuda_check(CUresult result, std::source_location where = std::source_location::current());

/// A driver function by name, looked up through the runtime so that the library loads where there is no driver.
/// Throws Error(unsupported) if the driver does not have it.
void* driver_entry(const char* name);

/// Devices CUDA can use: 0 without a driver or a GPU. `why_no_cuda` says then what CUDA said.
int cuda_device_count();
std::string why_no_cuda();

/// Makes `device` current for a scope.
class DeviceScope {
 public:
  explicit DeviceScope(int device);
  ~DeviceScope();
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  int before_ = 0;
  int device_ = 0;
};

struct CudaDeleter {
  void operator()(CUevent_st* event) const { (void)cudaEventDestroy(event); }
  void operator()(CUstream_st* stream) const { (void)cudaStreamDestroy(stream); }
};
/// An event without timing, on the current device.
using CudaEvent = std::unique_ptr<CUevent_st, CudaDeleter>;
CudaEvent make_event();
/// A stream that does not wait for the legacy default stream, on the current device.
using CudaStream = std::unique_ptr<CUstream_st, CudaDeleter>;
CudaStream make_stream();

struct PinnedDeleter {
  void operator()(void* memory) const { (void)cudaFreeHost(memory); }
};
/// Page-locked host memory, zeroed, that every device reaches at the same address.
template <typename T>
using Pinned = std::unique_ptr<T, PinnedDeleter>;
void* allocate_pinned(std::size_t bytes);
template <typename T>
Pinned<T> make_pinned() {
  return Pinned<T>(new (allocate_pinned(sizeof(T))) T{});
}

}  // namespace collectives
