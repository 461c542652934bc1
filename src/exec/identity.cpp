#include "exec/identity.hpp"

#include <cstring>
#include <limits>

#include "base/require.hpp"
#include "kernels/number.hpp"

namespace collectives {
namespace {

template <typename T>
ElementBits bits_of(T value) {
  ElementBits element{.size = static_cast<int>(sizeof value)};
  std::memcpy(&element.bits, &value, sizeof value);
  return element;
}

/// Sums begin with -0, not 0: -0 + 0 is 0 and -0 + -0 is -0.
double floating_identity(ReduceOp op) {
  switch (op) {
    case ReduceOp::prod: return 1;
    case ReduceOp::min: return std::numeric_limits<double>::infinity();
    case ReduceOp::max: return -std::numeric_limits<double>::infinity();
    default: return -0.0;
  }
}

template <typename T>
ElementBits integer_identity(ReduceOp op) {
  switch (op) {
    case ReduceOp::prod: return bits_of(T{1});
    case ReduceOp::min: return bits_of(std::numeric_limits<T>::max());
    case ReduceOp::max: return bits_of(std::numeric_limits<T>::min());
    default: return bits_of(T{0});
  }
}

}  // namespace

ElementBits identity_of(DataType type, bool carried, ReduceOp op) {
  const double floating = floating_identity(op);
  const auto narrow = static_cast<float>(floating);
  switch (carried ? DataType::float32 : type) {
    case DataType::float32: return bits_of(narrow);
    case DataType::float64: return bits_of(floating);
    case DataType::float16: return bits_of(kernels::to_half(narrow));
    case DataType::bfloat16: return bits_of(kernels::to_bfloat16(narrow));
    case DataType::int8: return integer_identity<std::int8_t>(op);
    case DataType::uint8: return integer_identity<std::uint8_t>(op);
    case DataType::int32: return integer_identity<std::int32_t>(op);
    case DataType::uint32: return integer_identity<std::uint32_t>(op);
    case DataType::int64: return integer_identity<std::int64_t>(op);
    case DataType::uint64: return integer_identity<std::uint64_t>(op);
    case DataType::float8_e4m3: return bits_of(kernels::to_e4m3(narrow));  // the largest finite: there is no infinity
    case DataType::float8_e5m2: return bits_of(kernels::to_e5m2(narrow));
  }
  ensure(false, "an unknown type passed the checks");
  return {};
}

void fill_elements(void* out, std::size_t count, ElementBits element) {
  const auto size = static_cast<std::size_t>(element.size);
  for (std::size_t i = 0; i < count; ++i) std::memcpy(static_cast<std::byte*>(out) + i * size, &element.bits, size);
}

}  // namespace collectives
