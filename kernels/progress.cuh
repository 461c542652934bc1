#pragma once

#include <cstdint>

// How far the warps of a block are, for its courier, which tells the peers: a word a warp in shared memory, zero at first. Whoever has
// waited for a count sees what that warp did before it reported it.
namespace collectives::kernels {

inline constexpr int most_reporting_warps = 16;

/// By a whole warp, `words` being the block's.
__device__ inline void report_progress(std::uint32_t* words, std::uint32_t count) {
  __syncwarp();
  if (threadIdx.x % 32 != 0) return;
  asm volatile("st.release.cta.shared.u32 [%0], %1;" ::"r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(words + threadIdx.x / 32))), "r"(count) : "memory");
}

/// By a whole warp, until the first `warps` have all reported `count`. `keep_waiting` is asked after each look in vain, and ends the wait
/// of its thread by saying no.
template <typename KeepWaiting>
__device__ void await_progress(const std::uint32_t* words, int warps, std::uint32_t count, KeepWaiting keep_waiting) {
  const int warp = static_cast<int>(threadIdx.x) % 32;
  const auto reported = [&] {
    std::uint32_t value;
    asm volatile("ld.acquire.cta.shared.u32 %0, [%1];" : "=r"(value) : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(words + warp))) : "memory");
    return value;
  };
  if (warp < warps)
    while (reported() < count && keep_waiting()) {
    }
  __syncwarp();
}

}  // namespace collectives::kernels
