// Stands in for p2p_measure.cpp in a build without CUDA: there are no GPUs, so nothing here is ever asked to measure.
#include <collectives/error.hpp>

#include "perf/p2p_measure.hpp"

namespace perf {
namespace {

[[noreturn]] Matrix no_cuda() { throw collectives::Error(collectives::ErrorCode::unsupported, "this build has no CUDA"); }

}  // namespace

std::vector<std::string> gpu_names() { return {}; }
std::string why_no_gpu() { return "this build has no CUDA"; }
Matrix measure_access(int) { no_cuda(); }
Matrix measure_copy_bandwidth(int, bool, bool, const P2pSettings&) { no_cuda(); }
Matrix measure_copy_latency(int, bool, const P2pSettings&) { no_cuda(); }
Matrix measure_sm_bandwidth(int, bool, const P2pSettings&) { no_cuda(); }
Matrix measure_flag_latency(int, const P2pSettings&) { no_cuda(); }

}  // namespace perf
