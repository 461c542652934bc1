#pragma once

#include <cstdio>
#include <cstdlib>
#include <vector>

#if COLLECTIVES_HAS_CUDA
#include <cuda_runtime_api.h>
#endif

/// Floats where a rank lives: on its GPU, or in host memory where `device` is -1.
class Floats {
 public:
  Floats(int device, std::size_t count, float value) : device_(device), host_(count, value) {
#if COLLECTIVES_HAS_CUDA
    if (device_ < 0) return;
    check(cudaSetDevice(device_));
    check(cudaMalloc(&on_device_, bytes()));
    check(cudaMemcpy(on_device_, host_.data(), bytes(), cudaMemcpyHostToDevice));
#endif
  }
  Floats(Floats&& other) noexcept : device_(other.device_), host_(std::move(other.host_)), on_device_(other.on_device_) {
    other.on_device_ = nullptr;
  }
  Floats& operator=(Floats&&) = delete;
  ~Floats() {
#if COLLECTIVES_HAS_CUDA
    cudaFree(on_device_);
#endif
  }

  void* data() { return device_ < 0 ? host_.data() : on_device_; }

  /// The values, once the calls that write them are done.
  const std::vector<float>& values() {
#if COLLECTIVES_HAS_CUDA
    if (device_ >= 0) check(cudaMemcpy(host_.data(), on_device_, bytes(), cudaMemcpyDeviceToHost));
#endif
    return host_;
  }

 private:
  std::size_t bytes() const { return host_.size() * sizeof(float); }

#if COLLECTIVES_HAS_CUDA
  static void check(cudaError_t result) {
    if (result == cudaSuccess) return;
    std::fprintf(stderr, "CUDA: %s\n", cudaGetErrorString(result));
    std::exit(1);
  }
#endif

  int device_;
  std::vector<float> host_;
  void* on_device_ = nullptr;
};

/// Makes a GPU current for a process of this rank, if there are any.
inline void use_gpu_of([[maybe_unused]] int rank) {
#if COLLECTIVES_HAS_CUDA
  int gpus = 0;
  if (cudaGetDeviceCount(&gpus) == cudaSuccess && gpus > 0) cudaSetDevice(rank % gpus);
#endif
}
