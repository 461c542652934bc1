// All schedules over the flagged wire: every type.
#include "kernels/dispatch.hpp"
#include "kernels/program_kernel.cuh"

namespace collectives::kernels {
namespace {

template <typename Call>
void dispatch(DataType type, bool carried, bool sum, Call&& call) {
  if (carried && type == DataType::float16) return call.template operator()<Carried<Half>, AnyOp>();
  if (carried) return call.template operator()<Carried<BFloat16>, AnyOp>();
  dispatch(type, sum, call);
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
