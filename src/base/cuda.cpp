#include "base/cuda.hpp"

#include <fmt/format.h>

#include "base/require.hpp"

namespace collectives {
namespace {

[[noreturn]] void fail(bool memory, const std::string& text, const std::source_location& where) {
  throw Error(memory ? ErrorCode::out_of_memory : ErrorCode::device, fmt::format("CUDA: {} ({}:{})", text, where.file_name(), where.line()));
}

}  // namespace

void cuda_check(cudaError_t result, std::source_location where) {
  if (result == cudaSuccess) return;
  (void)cudaGetLastError();  // a failed call must not be found again by the next, unrelated check
  fail(result == cudaErrorMemoryAllocation, fmt::format("{}: {}", cudaGetErrorName(result), cudaGetErrorString(result)), where);
}

void cuda_check(CUresult result, std::source_location where) {
  if (result == CUDA_SUCCESS) return;
  static const auto describe = reinterpret_cast<CUresult (*)(CUresult, const char**)>(driver_entry("cuGetErrorString"));
  const char* text = nullptr;
  describe(result, &text);
  fail(result == CUDA_ERROR_OUT_OF_MEMORY, fmt::format("driver error {}: {}", static_cast<int>(result), text ? text : "unknown"), where);
}

void* driver_entry(const char* name) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  const auto result = cudaGetDriverEntryPointByVersion(name, &function, 12000, cudaEnableDefault, &found);
  if (result != cudaSuccess) (void)cudaGetLastError();
  require(result == cudaSuccess && found == cudaDriverEntryPointSuccess && function != nullptr,
          [&] { return fmt::format("this CUDA driver has no {}: expected driver 525 or newer", name); }, ErrorCode::unsupported);
  return function;
}

int cuda_device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    (void)cudaGetLastError();
    return 0;
  }
  return count;
}

std::string why_no_cuda() {
  int count = 0;
  const auto result = cudaGetDeviceCount(&count);
  if (result == cudaSuccess) return count == 0 ? "CUDA sees no device" : "";
  (void)cudaGetLastError();
  std::string words = fmt::format("{}: {}", cudaGetErrorName(result), cudaGetErrorString(result));
  int driver = 0, runtime = 0;
  if (result != cudaErrorInsufficientDriver || cudaDriverGetVersion(&driver) != cudaSuccess || cudaRuntimeGetVersion(&runtime) != cudaSuccess) return words;
  if (driver == 0) return words + " (no NVIDIA driver is installed)";
  const auto version = [](int number) { return fmt::format("{}.{}", number / 1000, number % 1000 / 10); };
  return words + fmt::format(" (the driver is for CUDA {} at most, this library is built with {}: install a newer driver)", version(driver), version(runtime));
}

DeviceScope::DeviceScope(int device) : device_(device) {
  cuda_check(cudaGetDevice(&before_));
  if (before_ != device_) cuda_check(cudaSetDevice(device_));
}

DeviceScope::~DeviceScope() {
  if (before_ != device_) (void)cudaSetDevice(before_);
}

CudaEvent make_event() {
  cudaEvent_t event = nullptr;
  cuda_check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return CudaEvent(event);
}

CudaStream make_stream() {
  cudaStream_t stream = nullptr;
  cuda_check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return CudaStream(stream);
}

void* allocate_pinned(std::size_t bytes) {
  void* memory = nullptr;
  cuda_check(cudaHostAlloc(&memory, bytes, cudaHostAllocMapped | cudaHostAllocPortable));
  return memory;
}

}  // namespace collectives
