#pragma once

#include "kernels/call.hpp"
#include "kernels/reduce.hpp"

// The caller's buffers, read and written by packs whatever their alignment and however short their last pack. The ways for
// the odd ones are functions of their own: inlined everywhere they would crowd the instruction cache, and a small message
// waits for its instructions more than for anything else.
namespace collectives::kernels {

template <typename T>
COLLECTIVES_HOST_DEVICE bool is_whole(const CallArgs& call, std::uint64_t p) {
  return (p + 1) * elements_per_pack<T> <= call.count;
}

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

/// Pack p of the message; what lies beyond the last element reads as zeros.
template <typename T>
COLLECTIVES_HOST_DEVICE Pack load_operand(const CallArgs& call, const void* buffer, bool aligned, std::uint64_t p) {
  if (aligned && is_whole<T>(call, p)) return static_cast<const Pack*>(buffer)[p];
  return load_by_element<T>(buffer, call.count, p);
}

template <typename T>
COLLECTIVES_HOST_DEVICE void store_result(const CallArgs& call, std::uint64_t p, const Pack& pack) {
  if (call.out_aligned && is_whole<T>(call, p)) {
    static_cast<Pack*>(call.out)[p] = pack;
  } else {
    store_by_element<T>(call.out, call.count, p, pack);
  }
}

}  // namespace collectives::kernels
