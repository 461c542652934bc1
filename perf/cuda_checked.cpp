#include "perf/cuda_checked.hpp"

#include <fmt/format.h>

#include <collectives/error.hpp>

#include "perf/stopwatch.hpp"

namespace perf {

using collectives::Error;
using collectives::ErrorCode;

void checked(cudaError_t result, std::source_location where) {
  if (result == cudaSuccess) return;
  cudaGetLastError();  // an error that is reported is not to be found again by the next call
  const ErrorCode code = result == cudaErrorMemoryAllocation ? ErrorCode::out_of_memory : ErrorCode::device;
  throw Error(code,
              fmt::format("{}:{}: CUDA: {} ({})", where.file_name(), where.line(), cudaGetErrorString(result), cudaGetErrorName(result)));
}

void wait_for(cudaStream_t stream, double deadline_s) {
  const Stopwatch waiting;
  for (;;) {
    const cudaError_t state = cudaStreamQuery(stream);
    if (state == cudaSuccess) return;
    if (state != cudaErrorNotReady) checked(state);
    if (waiting.ms() > deadline_s * 1000)
      throw Error(ErrorCode::timeout, fmt::format("a stream was still busy after {:.0f} s", deadline_s));
  }
}

}  // namespace perf
