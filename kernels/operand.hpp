#pragma once

#include "kernels/call.hpp"
#include "kernels/reduce.hpp"

// The caller's buffers, read and written by packs whatever their alignment and however short their last pack. The ways for
// the odd ones are functions of their own: inlined everywhere they would crowd the instruction cache, and a small message
// waits for its instructions more than for anything else.
namespace collectives::kernels {

template <typename T>
COLLECTIVES_COLD Pack load_by_element(const void* buffer, std::uint64_t count, std::uint64_t p) {
  constexpr int elements = elements_per_pack<T>;
  const T* from = static_cast<const T*>(buffer) + p * elements;
  Elements<T> value{};
  COLLECTIVES_UNROLL
  for (int i = 0; i < elements; ++i)
    if (p * elements + i < count) value.element[i] = from[i];
  return value.pack;
}

template <typename T>
COLLECTIVES_COLD void store_by_element(void* buffer, std::uint64_t count, std::uint64_t p, Pack pack) {
  constexpr int elements = elements_per_pack<T>;
  T* to = static_cast<T*>(buffer) + p * elements;
  Elements<T> value;
  value.pack = pack;
  COLLECTIVES_UNROLL
  for (int i = 0; i < elements; ++i)
    if (p * elements + i < count) to[i] = value.element[i];
}

/// Pack p of a buffer of bytes that no 16-byte access may read or write: by the largest unit that divides its address and its length.
COLLECTIVES_COLD Pack load_bytes(const void* buffer, std::uint64_t bytes, std::uint64_t p) {
  const std::uint64_t odd = reinterpret_cast<std::uintptr_t>(buffer) | bytes;
  if (odd % 4 == 0) return load_by_element<std::uint32_t>(buffer, bytes / 4, p);
  if (odd % 2 == 0) return load_by_element<std::uint16_t>(buffer, bytes / 2, p);
  return load_by_element<std::uint8_t>(buffer, bytes, p);
}
COLLECTIVES_COLD void store_bytes(void* buffer, std::uint64_t bytes, std::uint64_t p, Pack pack) {
  const std::uint64_t odd = reinterpret_cast<std::uintptr_t>(buffer) | bytes;
  if (odd % 4 == 0) return store_by_element<std::uint32_t>(buffer, bytes / 4, p, pack);
  if (odd % 2 == 0) return store_by_element<std::uint16_t>(buffer, bytes / 2, p, pack);
  store_by_element<std::uint8_t>(buffer, bytes, p, pack);
}

/// Floats that travel as T: two packs of them are one of T's.
template <typename T>
COLLECTIVES_HOST_DEVICE Pack load_carried(const void* buffer, std::uint64_t count, bool aligned, std::uint64_t p) {
  constexpr int elements = elements_per_pack<T>;
  const float* from = static_cast<const float*>(buffer) + p * elements;
  Elements<T> value{};
  if (aligned && (p + 1) * elements <= count) {
    Elements<float> half[2];
    half[0].pack = reinterpret_cast<const Pack*>(from)[0];
    half[1].pack = reinterpret_cast<const Pack*>(from)[1];
    COLLECTIVES_UNROLL
    for (int i = 0; i < elements; ++i) value.element[i] = Element<T>::narrow(half[i / 4].element[i % 4]);
    return value.pack;
  }
  COLLECTIVES_UNROLL
  for (int i = 0; i < elements; ++i)
    if (p * elements + i < count) value.element[i] = Element<T>::narrow(from[i]);
  return value.pack;
}

template <typename T>
COLLECTIVES_HOST_DEVICE void store_carried(void* buffer, std::uint64_t count, bool aligned, std::uint64_t p, const Pack& pack) {
  constexpr int elements = elements_per_pack<T>;
  float* to = static_cast<float*>(buffer) + p * elements;
  Elements<T> value;
  value.pack = pack;
  if (aligned && (p + 1) * elements <= count) {
    Elements<float> half[2];
    COLLECTIVES_UNROLL
    for (int i = 0; i < elements; ++i) half[i / 4].element[i % 4] = Element<T>::widen(value.element[i]);
    reinterpret_cast<Pack*>(to)[0] = half[0].pack;
    reinterpret_cast<Pack*>(to)[1] = half[1].pack;
    return;
  }
  COLLECTIVES_UNROLL
  for (int i = 0; i < elements; ++i)
    if (p * elements + i < count) to[i] = Element<T>::widen(value.element[i]);
}

/// Pack p of `count` elements; what lies beyond the last one reads as zeros and is not written.
template <typename T>
COLLECTIVES_HOST_DEVICE Pack load_pack(const void* buffer, std::uint64_t count, bool aligned, std::uint64_t p) {
  if constexpr (is_carried<T>) return load_carried<T>(buffer, count, aligned, p);
  if (aligned && (p + 1) * elements_per_pack<T> <= count) return static_cast<const Pack*>(buffer)[p];
  return load_by_element<T>(buffer, count, p);
}

template <typename T>
COLLECTIVES_HOST_DEVICE void store_pack(void* buffer, std::uint64_t count, bool aligned, std::uint64_t p, const Pack& pack) {
  if constexpr (is_carried<T>) {
    store_carried<T>(buffer, count, aligned, p, pack);
  } else if (aligned && (p + 1) * elements_per_pack<T> <= count) {
    static_cast<Pack*>(buffer)[p] = pack;
  } else {
    store_by_element<T>(buffer, count, p, pack);
  }
}

/// Each element times a factor, which is one of the type, and rounded.
template <typename T>
COLLECTIVES_COLD Pack scale_pack(Pack pack, const void* factor) {
  Elements<T> factors;
  COLLECTIVES_UNROLL
  for (int i = 0; i < elements_per_pack<T>; ++i) factors.element[i] = *static_cast<const T*>(factor);
  Accumulators<T> product = unpack<T>(pack);
  accumulate<T>(product, factors.pack, AnyOp{ReduceOp::prod});
  return round<T>(product, 1);
}

}  // namespace collectives::kernels
