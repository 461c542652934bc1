#pragma once

#include <collectives/types.hpp>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "base/atomics.hpp"
#include "kernels/number.hpp"

// How a pack of elements is combined: unpacked into accumulators, combined operand by operand, divided for an average,
// rounded once.
namespace collectives::kernels {

template <typename T>
inline constexpr T canonical_nan = std::numeric_limits<T>::quiet_NaN();

/// What elements of T are accumulated in: fp32 for floats of up to 32 bits, fp64, integers of the same width. Every NaN comes
/// out as the one canonical NaN of its type: a CPU passes on the payload of the first of two, and a compiler may swap them in
/// one of the places where the same sum is written, so that two ranks would differ.
template <typename T>
struct Element {
  using Accumulator = T;
  static COLLECTIVES_HOST_DEVICE T widen(T value) { return value; }
  static COLLECTIVES_HOST_DEVICE T narrow(T value) {
    if constexpr (std::is_floating_point_v<T>) {
      return value == value ? value : canonical_nan<T>;
    } else {
      return value;
    }
  }
};
template <>
struct Element<Half> {
  using Accumulator = float;
  static COLLECTIVES_HOST_DEVICE float widen(Half value) { return to_float(value); }
  static COLLECTIVES_HOST_DEVICE Half narrow(float value) { return to_half(value); }
};
template <>
struct Element<BFloat16> {
  using Accumulator = float;
  static COLLECTIVES_HOST_DEVICE float widen(BFloat16 value) { return to_float(value); }
  static COLLECTIVES_HOST_DEVICE BFloat16 narrow(float value) { return to_bfloat16(value); }
};
template <>
struct Element<Float8E4M3> {
  using Accumulator = float;
  static COLLECTIVES_HOST_DEVICE float widen(Float8E4M3 value) { return to_float(value); }
  static COLLECTIVES_HOST_DEVICE Float8E4M3 narrow(float value) { return to_e4m3(value); }
};
template <>
struct Element<Float8E5M2> {
  using Accumulator = float;
  static COLLECTIVES_HOST_DEVICE float widen(Float8E5M2 value) { return to_float(value); }
  static COLLECTIVES_HOST_DEVICE Float8E5M2 narrow(float value) { return to_e5m2(value); }
};

/// Elements that are floats in the caller's memory and T everywhere else: rounded when they are read, widened when they are
/// written.
template <typename T>
struct Carried {
  T value;
};
template <typename T>
struct Element<Carried<T>> {
  using Accumulator = float;
  static COLLECTIVES_HOST_DEVICE float widen(Carried<T> carried) { return Element<T>::widen(carried.value); }
  static COLLECTIVES_HOST_DEVICE Carried<T> narrow(float value) { return {Element<T>::narrow(value)}; }
};
template <typename T>
inline constexpr bool is_carried = false;
template <typename T>
inline constexpr bool is_carried<Carried<T>> = true;

template <typename T>
inline constexpr int elements_per_pack = static_cast<int>(sizeof(Pack) / sizeof(T));

/// A pack seen as elements. Only for values in registers: memory is read and written as whole packs.
template <typename T>
union Elements {
  Pack pack;
  T element[elements_per_pack<T>];
};

template <typename T>
struct Accumulators {
  typename Element<T>::Accumulator value[elements_per_pack<T>];
};

/// IEEE 754-2019 minimum and maximum: NaN wins, and -0 is less than +0.
template <typename A>
COLLECTIVES_HOST_DEVICE A lesser(A a, A b) {
  if constexpr (std::is_floating_point_v<A>) {
    if (a != a) return a;
    if (b != b) return b;
    if (a == b) return __builtin_signbit(a) ? a : b;
  }
  return a < b ? a : b;
}
template <typename A>
COLLECTIVES_HOST_DEVICE A greater(A a, A b) {
  if constexpr (std::is_floating_point_v<A>) {
    if (a != a) return a;
    if (b != b) return b;
    if (a == b) return __builtin_signbit(a) ? b : a;
  }
  return a < b ? b : a;
}

/// Sums and products of integers wrap; signed overflow in C++ would not.
template <typename A>
COLLECTIVES_HOST_DEVICE A add(A a, A b) {
  if constexpr (std::is_integral_v<A>) {
    using U = std::make_unsigned_t<A>;
    return static_cast<A>(static_cast<U>(static_cast<U>(a) + static_cast<U>(b)));
  } else {
    return a + b;
  }
}
template <typename A>
COLLECTIVES_HOST_DEVICE A multiply(A a, A b) {
  if constexpr (std::is_integral_v<A>) {
    using U = std::make_unsigned_t<A>;
    // 64 bits on the way: two 16-bit factors would be promoted to int and overflow it.
    return static_cast<A>(static_cast<U>(static_cast<std::uint64_t>(static_cast<U>(a)) * static_cast<std::uint64_t>(static_cast<U>(b))));
  } else {
    return a * b;
  }
}

template <typename A, int count, typename Function>
COLLECTIVES_HOST_DEVICE void each(A (&sum)[count], const A (&operand)[count], Function function) {
  COLLECTIVES_UNROLL
  for (int i = 0; i < count; ++i) sum[i] = function(sum[i], operand[i]);
}

/// The operation known at compile time: sums, where engines spend their time.
struct SumOnly {
  template <typename A, int count>
  COLLECTIVES_HOST_DEVICE void operator()(A (&sum)[count], const A (&operand)[count]) const {
    each(sum, operand, [](A a, A b) { return add(a, b); });
  }
};

/// Any operation, decided once a pack. An average adds.
struct AnyOp {
  ReduceOp op;
  template <typename A, int count>
  COLLECTIVES_HOST_DEVICE void operator()(A (&sum)[count], const A (&operand)[count]) const {
    switch (op) {
      case ReduceOp::prod: return each(sum, operand, [](A a, A b) { return multiply(a, b); });
      case ReduceOp::min: return each(sum, operand, [](A a, A b) { return lesser(a, b); });
      case ReduceOp::max: return each(sum, operand, [](A a, A b) { return greater(a, b); });
      default: return each(sum, operand, [](A a, A b) { return add(a, b); });
    }
  }
};

/// Two bfloat16s of a word by an instruction each, where a compiler that is shown elements takes two for the upper.
COLLECTIVES_HOST_DEVICE Accumulators<BFloat16> widen_pairs(const Pack& pack) {
  Accumulators<BFloat16> out;
  COLLECTIVES_UNROLL
  for (int i = 0; i < 4; ++i) {
    out.value[2 * i] = float_of(pack.word[i] << 16);
    out.value[2 * i + 1] = float_of(pack.word[i] & 0xffff0000u);
  }
  return out;
}

template <typename T>
COLLECTIVES_HOST_DEVICE Accumulators<T> unpack(const Pack& pack) {
  if constexpr (std::is_same_v<T, BFloat16>) return widen_pairs(pack);
  Elements<T> in;
  in.pack = pack;
  Accumulators<T> out;
  COLLECTIVES_UNROLL
  for (int i = 0; i < elements_per_pack<T>; ++i) out.value[i] = Element<T>::widen(in.element[i]);
  return out;
}

template <typename T, typename Op>
COLLECTIVES_HOST_DEVICE void accumulate(Accumulators<T>& sum, const Pack& pack, const Op& op) {
  const Accumulators<T> operand = unpack<T>(pack);
  op(sum.value, operand.value);
}

/// Rounds once, after dividing by `divisor` (1 unless this completes an average).
template <typename T>
COLLECTIVES_HOST_DEVICE Pack round(Accumulators<T> sum, int divisor) {
  using A = typename Element<T>::Accumulator;
  Elements<T> out;
  if (divisor != 1) {
    COLLECTIVES_UNROLL
    for (int i = 0; i < elements_per_pack<T>; ++i) sum.value[i] = static_cast<A>(sum.value[i] / static_cast<A>(divisor));
  }
  COLLECTIVES_UNROLL
  for (int i = 0; i < elements_per_pack<T>; ++i) out.element[i] = Element<T>::narrow(sum.value[i]);
  return out.pack;
}

}  // namespace collectives::kernels
