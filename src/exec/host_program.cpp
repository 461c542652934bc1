#include "exec/host_program.hpp"

#include "base/require.hpp"
#include "exec/host_group.hpp"
#include "kernels/program_body.hpp"

namespace collectives {
namespace {

template <typename T, template <typename> typename W>
void run(const kernels::ProgramArgs& args, const std::function<void()>& relieve) {
  kernels::Walk<T, kernels::AnyOp, W<T>, HostGroup, HostRelief>(args, kernels::AnyOp{args.op}, HostGroup{}, HostRelief{&relieve}).run();
}

template <template <typename> typename W>
void run_carried(const kernels::ProgramArgs& args, DataType type, const std::function<void()>& relieve) {
  if (type == DataType::float16) return run<kernels::Carried<kernels::Half>, W>(args, relieve);
  run<kernels::Carried<kernels::BFloat16>, W>(args, relieve);
}

void run_flagged(const kernels::ProgramArgs& args, DataType type, const std::function<void()>& relieve) {
  using kernels::FlaggedWire;
  switch (type) {
    case DataType::float32: return run<float, FlaggedWire>(args, relieve);
    case DataType::float64: return run<double, FlaggedWire>(args, relieve);
    case DataType::float16: return run<kernels::Half, FlaggedWire>(args, relieve);
    case DataType::bfloat16: return run<kernels::BFloat16, FlaggedWire>(args, relieve);
    case DataType::int8: return run<std::int8_t, FlaggedWire>(args, relieve);
    case DataType::uint8: return run<std::uint8_t, FlaggedWire>(args, relieve);
    case DataType::int32: return run<std::int32_t, FlaggedWire>(args, relieve);
    case DataType::uint32: return run<std::uint32_t, FlaggedWire>(args, relieve);
    case DataType::int64: return run<std::int64_t, FlaggedWire>(args, relieve);
    case DataType::uint64: return run<std::uint64_t, FlaggedWire>(args, relieve);
    case DataType::float8_e4m3: return run<kernels::Float8E4M3, FlaggedWire>(args, relieve);
    case DataType::float8_e5m2: return run<kernels::Float8E5M2, FlaggedWire>(args, relieve);
  }
  ensure(false, "an unknown type passed the checks");
}

}  // namespace

void run_on_host(const kernels::ProgramArgs& args, DataType type, Wire wire, const std::function<void()>& relieve) {
  if (args.carried) return wire == Wire::flagged ? run_carried<kernels::FlaggedWire>(args, type, relieve) : run_carried<kernels::SentinelWire>(args, type, relieve);
  if (wire == Wire::flagged) return run_flagged(args, type, relieve);
  switch (type) {
    case DataType::float32: return run<float, kernels::SentinelWire>(args, relieve);
    case DataType::float16: return run<kernels::Half, kernels::SentinelWire>(args, relieve);
    case DataType::bfloat16: return run<kernels::BFloat16, kernels::SentinelWire>(args, relieve);
    default: ensure(false, "the sentinel wire carries float, half and bfloat16 only");
  }
}

}  // namespace collectives
