// Stands in for place_cuda.cpp in a build without CUDA.
#include <collectives/error.hpp>

#include "perf/place.hpp"

namespace perf {

std::unique_ptr<Place> make_cuda_place(int, bool, bool) {
  throw collectives::Error(collectives::ErrorCode::unsupported, "this build has no CUDA");
}

Survey survey_gpus() { return {.gpus = 0, .why_none = "this build has no CUDA"}; }

void use_device(int) {}

}  // namespace perf
