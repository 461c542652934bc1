#include "topology/detect.hpp"

namespace collectives {

/// A build without the CUDA backend can use no GPU, so it reports none.
void add_cuda(Machine&) {}

}  // namespace collectives
