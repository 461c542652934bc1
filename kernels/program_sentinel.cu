// All schedules over the sentinel wire: the types whose every value leaves a 32-bit word to mean "empty".
#include "kernels/program_kernel.cuh"

namespace collectives::kernels {
namespace {

template <typename Call>
void dispatch(DataType type, bool carried, bool sum, Call&& call) {
  const auto with_op = [&]<typename T>() { sum ? call.template operator()<T, SumOnly>() : call.template operator()<T, AnyOp>(); };
  if (carried && type == DataType::float16) return call.template operator()<Carried<Half>, AnyOp>();
  if (carried) return call.template operator()<Carried<BFloat16>, AnyOp>();
  switch (type) {
    case DataType::float32: return with_op.template operator()<float>();
    case DataType::float16: return with_op.template operator()<Half>();
    case DataType::bfloat16: return with_op.template operator()<BFloat16>();
    default: ensure(false, "the sentinel wire carries float, half and bfloat16 only");
  }
}

}  // namespace

void launch_sentinel(const ProgramArgs& args, DataType type, int blocks, int threads, Stream stream) {
  dispatch(type, args.carried, args.op == ReduceOp::sum, [&]<typename T, typename Op>() { launch_program<T, Op, SentinelWire>(args, blocks, threads, stream); });
}

void preload_sentinel() {
  for (const auto type : {DataType::float32, DataType::float16, DataType::bfloat16})
    for (const bool sum : {true, false}) dispatch(type, false, sum, [&]<typename T, typename Op>() { preload_program<T, Op, SentinelWire>(); });
  for (const auto type : {DataType::float16, DataType::bfloat16})
    dispatch(type, true, false, [&]<typename T, typename Op>() { preload_program<T, Op, SentinelWire>(); });
}

}  // namespace collectives::kernels
