#pragma once

#include <array>

#include "base/cuda.hpp"
#include "exec/staged_copies.hpp"

namespace collectives {

/// Enqueues calls that copy engines carry through host memory, on the caller's stream and three of its own. Made on the device that is current.
class StagedStreams {
 public:
  StagedStreams();

  /// As CopyStreams::enqueue.
  void enqueue(const kernels::CopyCallArgs& args, const StagedCall& call, DataType type, const Plan& plan, Stream stream, bool captured);

 private:
  static constexpr int points = 5, kept = 4;  ///< of each point, of as many groups in a row

  std::array<CudaStream, staged_lanes - 1> eager_;
  std::array<CudaStream, staged_lanes - 1> captured_;  ///< apart: a call beside a capture must not be drawn into it
  std::array<CudaEvent, points * kept> events_;
};

}  // namespace collectives
