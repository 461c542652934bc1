#pragma once

#include <cstdint>

// How far the warps of a block are, for its courier, which tells the peers: a word a warp in shared memory, zero at first. Whoever has
// waited for a count sees what that warp did before it reported it.
namespace collectives::kernels {

inline constexpr int most_reporting_warps = 16;

__device__ inline void report_word(std::uint32_t* word, std::uint32_t value) {
  asm volatile("st.release.cta.shared.u32 [%0], %1;" ::"r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(word))), "r"(value) : "memory");
}
__device__ inline std::uint32_t reported_word(const std::uint32_t* word) {
  std::uint32_t value;
  asm volatile("ld.acquire.cta.shared.u32 %0, [%1];" : "=r"(value) : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(word))) : "memory");
  return value;
}

/// By all threads before any reports: each warp empties its own word, so that none has to wait for another's doing it. Who reads them has waited for all.
__device__ inline void begin_progress(std::uint32_t* words) {
  if (threadIdx.x % 32 == 0) words[threadIdx.x / 32] = 0;
}

/// By a whole warp, `words` being the block's.
__device__ inline void report_progress(std::uint32_t* words, std::uint32_t count) {
  __syncwarp();
  if (threadIdx.x % 32 == 0) report_word(words + threadIdx.x / 32, count);
}

/// By a whole warp, until the first `warps` have all reported `count`. What the warp that this thread looked at has reported by then, or the most there
/// is if it looked at none. `keep_waiting` is asked after each look in vain, and ends the wait of its thread by saying no.
template <typename KeepWaiting>
__device__ std::uint32_t await_progress(const std::uint32_t* words, int warps, std::uint32_t count, KeepWaiting keep_waiting) {
  const int warp = static_cast<int>(threadIdx.x) % 32;
  std::uint32_t reported = 0xffffffffu;
  if (warp < warps)
    while ((reported = reported_word(words + warp)) < count && keep_waiting()) {
    }
  __syncwarp();
  return reported;
}

/// By a whole warp.
__device__ inline std::uint32_t least_of_warp(std::uint32_t value) {
  for (int distance = 16; distance > 0; distance /= 2) {
    const std::uint32_t other = __shfl_xor_sync(0xffffffffu, value, distance);
    value = other < value ? other : value;
  }
  return value;
}

}  // namespace collectives::kernels
