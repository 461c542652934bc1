// Schedules whose rounds have crews of blocks, over the flagged wire: every type.
#include <algorithm>

#include "base/cuda.hpp"
#include "kernels/crew_body.hpp"
#include "kernels/dispatch.hpp"

namespace collectives::kernels {
namespace {

/// A thread block of a crew: neighbours are of different ones.
class CrewGroup {
 public:
  explicit __device__ CrewGroup(int crews) : block_(static_cast<int>(blockIdx.x) / crews), crew_(static_cast<int>(blockIdx.x) - block_ * crews), blocks_(static_cast<int>(gridDim.x) / crews) {}
  __device__ int thread() const { return static_cast<int>(threadIdx.x); }
  __device__ int threads() const { return static_cast<int>(blockDim.x); }
  __device__ int crew() const { return crew_; }
  __device__ int block() const { return block_; }
  __device__ int blocks() const { return blocks_; }
  __device__ void sync() const { __syncthreads(); }

 private:
  int block_, crew_, blocks_;
};

/// How many threads have the registers that a pack takes while it is summed up: 16 elements of a byte need more than 512 threads have.
template <typename T>
constexpr int most_threads = sizeof(T) == 1 ? 384 : 512;

template <typename T, typename Op>
__global__ void __launch_bounds__(most_threads<T>, 1) crew_kernel(const __grid_constant__ ProgramArgs args) {
  Op op{};
  if constexpr (std::is_same_v<Op, AnyOp>) op.op = args.op;
  CrewWalk<T, Op, FlaggedWire<T>, CrewGroup, NoRelief>(args, op, CrewGroup(args.crews), NoRelief{}).run();
}

template <typename Call>
void dispatch(DataType type, bool carried, bool sum, Call&& call) {
  if (carried && type == DataType::float16) return call.template operator()<Carried<Half>, AnyOp>();
  if (carried) return call.template operator()<Carried<BFloat16>, AnyOp>();
  dispatch(type, sum, call);
}

template <typename T, typename Op>
void preload_crew() {
  cudaFuncAttributes attributes{};
  cuda_check(cudaFuncGetAttributes(&attributes, crew_kernel<T, Op>));
}

}  // namespace

void launch_crews(const ProgramArgs& args, DataType type, int blocks, int threads, Stream stream) {
  dispatch(type, args.carried, args.op == ReduceOp::sum, [&]<typename T, typename Op>() {
    crew_kernel<T, Op><<<blocks * args.crews, std::min(threads, most_threads<T>), 0, stream>>>(args);
    cuda_check(cudaGetLastError());
  });
}

void preload_crews() {
  for (int type = 0; type < data_type_count; ++type)
    for (const bool sum : {true, false})
      dispatch(static_cast<DataType>(type), false, sum, [&]<typename T, typename Op>() { preload_crew<T, Op>(); });
  for (const auto type : {DataType::float16, DataType::bfloat16})
    dispatch(type, true, false, [&]<typename T, typename Op>() { preload_crew<T, Op>(); });
}

}  // namespace collectives::kernels
