#pragma once

#include <cstdint>
#include <cstring>

// Compiled by g++ and nvcc alike, so that CPU ranks and kernels round and draw the same values.
#if defined(__CUDACC__)
#define COLLECTIVES_EXAMPLE_HOST_DEVICE __host__ __device__
#else
#define COLLECTIVES_EXAMPLE_HOST_DEVICE
#endif

namespace transformer {

/// What is stored; all arithmetic is fp32.
struct Bf16 {
  std::uint16_t bits;
};

COLLECTIVES_EXAMPLE_HOST_DEVICE inline float widen(Bf16 value) {
  const std::uint32_t bits = static_cast<std::uint32_t>(value.bits) << 16;
  float wide;
  memcpy(&wide, &bits, sizeof wide);
  return wide;
}

/// To nearest, ties to even. NaN stays NaN, infinity infinity.
COLLECTIVES_EXAMPLE_HOST_DEVICE inline Bf16 narrow(float value) {
  std::uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {0x7fff};
  return {static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16)};
}

}  // namespace transformer
