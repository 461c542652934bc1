#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "perf/p2p_matrix.hpp"

namespace perf {

struct P2pSettings {
  std::size_t bytes = 64u << 20;  ///< of one copy; a multiple of 16
  int repetitions = 5;            ///< of every measurement; the median counts
};

/// Names of the GPUs by CUDA ordinal; none without a GPU.
std::vector<std::string> gpu_names();

/// Why `gpu_names` is empty.
std::string why_no_gpu();

/// 1 where the row's GPU may map the column's memory.
Matrix measure_access(int gpus);

/// Copies by the copy engines with peer access switched on or off, one way or both ways at once, and the time of a 16-byte copy.
/// A GPU with itself reads and writes the same memory, so that both count.
Matrix measure_copy_bandwidth(int gpus, bool access, bool both_ways, const P2pSettings& settings);
Matrix measure_copy_latency(int gpus, bool access, const P2pSettings& settings);

/// Copies by the multiprocessors of the row's GPU: into the column's memory, or out of it. Pairs without access stay unmeasured.
Matrix measure_sm_bandwidth(int gpus, bool loads, const P2pSettings& settings);

/// One way of a flag that two resident kernels send to and fro. Unmeasured where there is no access or the flag did not come.
Matrix measure_flag_latency(int gpus, const P2pSettings& settings);

}  // namespace perf
