#pragma once

#include <collectives/types.hpp>
#include <cstddef>
#include <cstdint>

#if defined(__CUDACC__)
#define COLLECTIVES_PERF_BOTH __host__ __device__
#else
#define COLLECTIVES_PERF_BOTH
#endif

// What ranks reduce when results are checked: small integers, so that every order of reduction is exact in every type and a
// result is right or wrong, never near. They differ per rank, per element and per call, because a slot that is read one call
// too late shows nothing when the payload repeats. GPU kernels and host loops share these functions.

namespace perf {

using collectives::DataType;
using collectives::ReduceOp;

/// All that the values of one checked call depend on, beside rank and element.
struct Payload {
  DataType type = DataType::float32;
  ReduceOp op = ReduceOp::sum;
  int ranks = 2;
  std::uint64_t call = 0;
  std::uint64_t first = 0;  ///< the element that a buffer begins with
};

COLLECTIVES_PERF_BOTH constexpr bool is_unsigned(DataType type) {
  return type == DataType::uint8 || type == DataType::uint32 || type == DataType::uint64;
}

COLLECTIVES_PERF_BOTH constexpr bool is_8_bit_float(DataType type) { return type == DataType::float8_e4m3 || type == DataType::float8_e5m2; }

/// The finaliser of SplitMix64.
COLLECTIVES_PERF_BOTH constexpr std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

/// The same for all ranks; `spread` tells the ranks apart with one more multiplication.
COLLECTIVES_PERF_BOTH constexpr std::uint64_t element_hash(const Payload& payload, std::uint64_t element) {
  return mix(element * 0x9e3779b97f4a7c15ull + mix(payload.call + 1));
}

COLLECTIVES_PERF_BOTH constexpr std::uint32_t spread(std::uint64_t hash, int rank) {
  return static_cast<std::uint32_t>(((hash ^ (static_cast<std::uint64_t>(rank + 1) << 32)) * 0xd6e8feb86659fd93ull) >> 40);
}

/// Average: 1, -1, 2, -2, ... (and 0 for an odd count), rotated over the ranks, sum to zero, so that the sum of all operands
/// is ranks * base and divides exactly.
COLLECTIVES_PERF_BOTH constexpr int average_operand(const Payload& payload, std::uint64_t hash, int rank) {
  const int position = static_cast<int>((static_cast<std::uint32_t>(rank) + static_cast<std::uint32_t>(hash >> 40)) %
                                        static_cast<std::uint32_t>(payload.ranks));
  const bool middle = position == payload.ranks - 1 && payload.ranks % 2 == 1;
  const int offset = middle ? 0 : position % 2 == 0 ? position / 2 + 1 : -(position / 2 + 1);
  // 8-bit floats hold no integer beyond 8 or 16 exactly: operands of 1, -1 and 0.
  if (is_8_bit_float(payload.type)) return middle ? 0 : position % 2 == 0 ? 1 : -1;
  const int base = static_cast<int>(hash & 3) + (is_unsigned(payload.type) ? 8 : -2);
  return base + offset;
}

/// Rank `rank`'s operand for this element. Sums of sixteen reach 128 in magnitude; products reach 64, because only the first
/// six ranks ever bring a two.
COLLECTIVES_PERF_BOTH constexpr int operand_of(const Payload& payload, std::uint64_t hash, int rank) {
  if (payload.op == ReduceOp::avg) return average_operand(payload, hash, rank);
  const std::uint32_t bits = spread(hash, rank);
  const bool sign = !is_unsigned(payload.type);
  if (payload.op == ReduceOp::prod) {
    const int magnitude = rank < 6 && (bits & 7) == 0 ? 2 : 1;  // a power of two, whatever the type
    return sign && (bits & 8) != 0 ? -magnitude : magnitude;
  }
  if (is_8_bit_float(payload.type)) return rank < 8 ? static_cast<int>(bits % 3u) - 1 : 0;
  return sign ? static_cast<int>((bits * 17ull) >> 24) - 8 : static_cast<int>((bits * 9ull) >> 24);
}

COLLECTIVES_PERF_BOTH constexpr int operand(const Payload& payload, int rank, std::uint64_t element) {
  return operand_of(payload, element_hash(payload, element), rank);
}

/// What every rank must hold at `element` afterwards.
COLLECTIVES_PERF_BOTH constexpr std::int64_t expected(const Payload& payload, std::uint64_t element) {
  const std::uint64_t hash = element_hash(payload, element);
  std::int64_t total = operand_of(payload, hash, 0);
  for (int rank = 1; rank < payload.ranks; ++rank) {
    const int value = operand_of(payload, hash, rank);
    switch (payload.op) {
      case ReduceOp::prod:
        total *= value;
        break;
      case ReduceOp::min:
        total = value < total ? value : total;
        break;
      case ReduceOp::max:
        total = value > total ? value : total;
        break;
      case ReduceOp::sum:
      case ReduceOp::avg:
        total += value;
        break;
    }
  }
  return payload.op == ReduceOp::avg ? total / payload.ranks : total;
}

/// Bits of an integer in a binary floating-point format. Exact while the integer has no more bits than the significand.
COLLECTIVES_PERF_BOTH constexpr std::uint64_t encode_floating(std::int64_t value, int exponent_bits, int fraction_bits) {
  if (value == 0) return 0;
  const std::uint64_t sign = value < 0 ? 1 : 0;
  const std::uint64_t magnitude = static_cast<std::uint64_t>(value < 0 ? -value : value);
  int top = 0;
  while ((magnitude >> (top + 1)) != 0) ++top;
  const std::uint64_t exponent = static_cast<std::uint64_t>((1 << (exponent_bits - 1)) - 1 + top);
  const std::uint64_t fraction = (magnitude << (fraction_bits - top)) & ((std::uint64_t{1} << fraction_bits) - 1);
  return (sign << (exponent_bits + fraction_bits)) | (exponent << fraction_bits) | fraction;
}

/// The bits of `value` in `type`; integers wrap.
COLLECTIVES_PERF_BOTH constexpr std::uint64_t encode(DataType type, std::int64_t value) {
  switch (type) {
    case DataType::float32:
      return encode_floating(value, 8, 23);
    case DataType::float64:
      return encode_floating(value, 11, 52);
    case DataType::float16:
      return encode_floating(value, 5, 10);
    case DataType::bfloat16:
      return encode_floating(value, 8, 7);
    case DataType::float8_e4m3:
      return encode_floating(value, 4, 3);
    case DataType::float8_e5m2:
      return encode_floating(value, 5, 2);
    case DataType::int8:
    case DataType::uint8:
      return static_cast<std::uint64_t>(value) & 0xff;
    case DataType::int32:
    case DataType::uint32:
      return static_cast<std::uint64_t>(value) & 0xffffffffu;
    case DataType::int64:
    case DataType::uint64:
      return static_cast<std::uint64_t>(value);
  }
  return 0;
}

static_assert(encode(DataType::float32, 1) == 0x3f800000u && encode(DataType::float32, -8) == 0xc1000000u);
static_assert(encode(DataType::float16, -2) == 0xc000u && encode(DataType::bfloat16, 128) == 0x4300u);
static_assert(encode(DataType::float64, 3) == 0x4008000000000000ull && encode(DataType::int8, -1) == 0xffu);

/// Whose values a buffer must hold: one rank's operands, or the reduction of all.
inline constexpr int all_ranks = -1;

COLLECTIVES_PERF_BOTH constexpr std::uint64_t bits_of(const Payload& payload, int rank, std::uint64_t index) {
  const std::uint64_t element = payload.first + index;
  return encode(payload.type, rank == all_ranks ? expected(payload, element) : operand(payload, rank, element));
}

/// Host memory: writes rank `rank`'s operands, or the expected result.
void fill(void* data, std::size_t count, const Payload& payload, int rank);

/// Host memory: elements whose bits are not those that `fill` would write.
std::uint64_t count_wrong(const void* data, std::size_t count, const Payload& payload, int rank);

/// Host memory: bytes that differ from `value`.
std::uint64_t count_altered(const void* data, std::size_t bytes, std::uint8_t value);

}  // namespace perf
