#pragma once

#include <array>

#include "base/cuda.hpp"
#include "exec/copies.hpp"

namespace collectives {

/// A stream whose few small kernels come before what waits for multiprocessors.
CudaStream make_urgent_stream();

/// Enqueues calls that copy engines carry, on the caller's stream and one of its own. Made on the device that is current.
class CopyStreams {
 public:
  CopyStreams();

  /// All of it is behind what `stream` has, and before what comes to it. `captured`: into a graph. The copying stream of captured
  /// calls is in no other capture at that time, or CUDA's error is thrown.
  void enqueue(const kernels::CopyCallArgs& args, const CopyCall& call, DataType type, const Plan& plan, Stream stream, bool captured);

 private:
  CudaStream eager_;
  CudaStream captured_;  ///< apart: a call beside a capture must not be drawn into it
  CudaEvent between_;
  std::array<CudaEvent, kernels::copy_buffers> consumed_;  ///< by group, modulo as many: follow(g) comes before consumed(g + 3)
};

}  // namespace collectives
