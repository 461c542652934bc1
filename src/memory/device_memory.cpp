#include "memory/device_memory.hpp"

#include <fmt/format.h>

#include "base/cuda.hpp"
#include "base/require.hpp"
#include "memory/rollback.hpp"

namespace collectives {

void ensure_context(int device) {
  const DeviceScope scope(device);
  cuda_check(cudaFree(nullptr));
}

void zero_device_memory(int device, std::byte* base, std::size_t bytes) {
  const DeviceScope scope(device);
  cudaStream_t stream = nullptr;
  cuda_check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  const Rollback always([&] { (void)cudaStreamDestroy(stream); });
  cuda_check(cudaMemsetAsync(base, 0, bytes, stream));
  cuda_check(cudaStreamSynchronize(stream));
}

void require_peer_access(int from, int to) {
  if (from == to) return;
  int possible = 0;
  cuda_check(cudaDeviceCanAccessPeer(&possible, from, to));
  require(
      possible != 0, [&] { return fmt::format("device {} cannot reach the memory of device {}", from, to); }, ErrorCode::unsupported);
}

}  // namespace collectives
