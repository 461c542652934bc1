// All schedules over the flagged wire: every type.
#include "kernels/program_kernel.cuh"

namespace collectives::kernels {
namespace {

template <typename Call>
void dispatch(DataType type, bool carried, bool sum, Call&& call) {
  const auto with_sum = [&]<typename T>() { sum ? call.template operator()<T, SumOnly>() : call.template operator()<T, AnyOp>(); };
  const auto any = [&]<typename T>() { call.template operator()<T, AnyOp>(); };
  if (carried && type == DataType::float16) return any.template operator()<Carried<Half>>();
  if (carried) return any.template operator()<Carried<BFloat16>>();
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

}  // namespace

void launch_flagged(const ProgramArgs& args, DataType type, int blocks, int threads, Stream stream) {
  dispatch(type, args.carried, args.op == ReduceOp::sum, [&]<typename T, typename Op>() { launch_program<T, Op, FlaggedWire>(args, blocks, threads, stream); });
}

void preload_flagged() {
  for (int type = 0; type < data_type_count; ++type)
    for (const bool sum : {true, false})
      dispatch(static_cast<DataType>(type), false, sum, [&]<typename T, typename Op>() { preload_program<T, Op, FlaggedWire>(); });
  for (const auto type : {DataType::float16, DataType::bfloat16})
    dispatch(type, true, false, [&]<typename T, typename Op>() { preload_program<T, Op, FlaggedWire>(); });
}

}  // namespace collectives::kernels
