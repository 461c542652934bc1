#include <collectives/error.hpp>

#include "engine.hpp"
#include "join.hpp"

namespace transformer {

std::unique_ptr<Engine> make_cuda_engine(const Shape&, const Shard&, const Limits&, int) {
  throw collectives::Error(collectives::ErrorCode::unsupported,
                           "this transformer_block was built without CUDA or without cuBLAS: --backend host");
}

int count_gpus() { return 0; }

std::vector<std::unique_ptr<Join>> join_by_nccl(const std::string&, const std::vector<int>&) {
  throw collectives::Error(collectives::ErrorCode::unsupported, "NCCL joins GPUs alone, and this transformer_block was built for none");
}

}  // namespace transformer
