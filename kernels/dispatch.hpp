#pragma once

#include "base/require.hpp"
#include "kernels/reduce.hpp"

namespace collectives::kernels {

/// Calls with the element's class and the operation's as template arguments, for every type: floats that engines use have sums of their own.
template <typename Call>
void dispatch(DataType type, bool sum, Call&& call) {
  const auto with_sum = [&]<typename T>() { sum ? call.template operator()<T, SumOnly>() : call.template operator()<T, AnyOp>(); };
  const auto any = [&]<typename T>() { call.template operator()<T, AnyOp>(); };
  switch (type) {
    case DataType::float32: return with_sum.template operator()<float>();
    case DataType::float16: return with_sum.template operator()<Half>();
    case DataType::bfloat16: return with_sum.template operator()<BFloat16>();
    case DataType::float64: return any.template operator()<double>();
    case DataType::int8: return any.template operator()<std::int8_t>();
    case DataType::uint8: return any.template operator()<std::uint8_t>();
    case DataType::int32: return any.template operator()<std::int32_t>();
    case DataType::uint32: return any.template operator()<std::uint32_t>();
    case DataType::int64: return any.template operator()<std::int64_t>();
    case DataType::uint64: return any.template operator()<std::uint64_t>();
    case DataType::float8_e4m3: return any.template operator()<Float8E4M3>();
    case DataType::float8_e5m2: return any.template operator()<Float8E5M2>();
  }
  ensure(false, "an unknown type passed the checks");
}

}  // namespace collectives::kernels
