#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#include "base/atomics.hpp"

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

// The floating types of 16 and 8 bits, as plain words with conversions that round to nearest even. Both sides turn every NaN into the
// one canonical NaN of the narrow type, as the hardware's conversion does.
namespace collectives::kernels {

struct Half {
  std::uint16_t bits;
};
struct BFloat16 {
  std::uint16_t bits;
};
/// No infinity; 448 is the largest, 0x7f the NaN.
struct Float8E4M3 {
  std::uint8_t bits;
};
struct Float8E5M2 {
  std::uint8_t bits;
};

COLLECTIVES_HOST_DEVICE std::uint32_t float_bits(float value) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(value);
#else
  return std::bit_cast<std::uint32_t>(value);
#endif
}

COLLECTIVES_HOST_DEVICE float float_of(std::uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(bits);
#else
  return std::bit_cast<float>(bits);
#endif
}

COLLECTIVES_HOST_DEVICE float to_float(BFloat16 value) { return float_of(static_cast<std::uint32_t>(value.bits) << 16); }

COLLECTIVES_HOST_DEVICE float to_float(Half value) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(value.bits));
#else
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000u) << 16;
  const std::uint32_t magnitude = value.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  // Scaling by a power of two is exact and turns subnormal halves into normal floats.
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude << 13) * 0x1p112f));
#endif
}

COLLECTIVES_HOST_DEVICE BFloat16 to_bfloat16(float value) {
#if defined(__CUDA_ARCH__)
  return {__bfloat16_as_ushort(__float2bfloat16_rn(value))};
#else
  if (value != value) return {0x7fffu};
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return {static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
#endif
}

COLLECTIVES_HOST_DEVICE Half to_half(float value) {
#if defined(__CUDA_ARCH__)
  return {__half_as_ushort(__float2half_rn(value))};
#else
  if (value != value) return {0x7fffu};
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude >= 0x477ff000u) return {static_cast<std::uint16_t>(sign | 0x7c00u)};
  if (magnitude < 0x38800000u) {
    // Adding 2^-1 aligns a subnormal's last place with the last place of the sum, so that the addition rounds it.
    const float aligned = std::bit_cast<float>(magnitude) + 0.5f;
    return {static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(aligned) - 0x3f000000u))};
  }
  return {static_cast<std::uint16_t>(sign | (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13)};
#endif
}

COLLECTIVES_HOST_DEVICE float to_float(Float8E5M2 value) { return to_float(Half{static_cast<std::uint16_t>(value.bits << 8)}); }

/// The same bits as a half are 2^-8 of the value, but for the one NaN.
COLLECTIVES_HOST_DEVICE float to_float(Float8E4M3 value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  std::uint32_t halves;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"(static_cast<std::uint16_t>(value.bits)));
  return to_float(Half{static_cast<std::uint16_t>(halves)});
#else
  const std::uint32_t sign = value.bits & 0x80u, magnitude = value.bits & 0x7fu;
  if (magnitude == 0x7fu) return to_float(Half{0x7e00u});
  return 256.0f * to_float(Half{static_cast<std::uint16_t>(sign << 8 | magnitude << 7)});
#endif
}

/// To nearest even in a format of `fraction` bits whose exponents are `bias` high, by integers alone, so that both sides agree.
/// What is beyond `largest` becomes `largest`; any NaN is 0x7f.
template <int fraction, int bias, std::uint32_t largest>
COLLECTIVES_HOST_DEVICE std::uint8_t to_float8(float value) {
  constexpr int shift = 23 - fraction;
  constexpr std::uint32_t smallest_normal = static_cast<std::uint32_t>(127 + 1 - bias) << 23;
  if (value != value) return 0x7fu;
  const std::uint32_t bits = float_bits(value), sign = bits >> 24 & 0x80u, magnitude = bits & 0x7fffffffu;
  std::uint32_t code = 0;
  if (magnitude >= smallest_normal) {
    code = ((magnitude + ((1u << (shift - 1)) - 1u) + (magnitude >> shift & 1u)) >> shift) - (static_cast<std::uint32_t>(127 - bias) << fraction);
  } else if (const std::uint32_t down = 127 + 1 - bias - (magnitude >> 23); magnitude >> 23 != 0 && down + shift < 32) {
    // A subnormal of the narrow format: its significand moves down by what the exponent lacks.
    const std::uint32_t significand = (magnitude & 0x7fffffu) | 0x800000u, by = shift + down, half = 1u << (by - 1);
    code = (significand + (half - 1u) + (significand >> by & 1u)) >> by;
  }
  return static_cast<std::uint8_t>(sign | (code < largest ? code : largest));
}

/// GPUs of compute capability 8.9 and later have instructions for it, which give the same bits.
COLLECTIVES_HOST_DEVICE Float8E4M3 to_e4m3(float value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  std::uint16_t both;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(both) : "f"(0.0f), "f"(value));
  return {static_cast<std::uint8_t>(both)};
#else
  return {to_float8<3, 7, 0x7eu>(value)};
#endif
}
COLLECTIVES_HOST_DEVICE Float8E5M2 to_e5m2(float value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  std::uint16_t both;
  asm("cvt.rn.satfinite.e5m2x2.f32 %0, %1, %2;" : "=h"(both) : "f"(0.0f), "f"(value));
  return {static_cast<std::uint8_t>(both)};
#else
  return {to_float8<2, 15, 0x7bu>(value)};
#endif
}

}  // namespace collectives::kernels
