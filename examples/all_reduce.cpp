#include <collectives/communicator.hpp>
#include <cstdio>
#include "floats.hpp"  // floats where a rank lives: on its GPU, or in host memory

int main() {
  using namespace collectives;
  auto ranks = Communicator::create_local({0, 1});  // GPUs 0 and 1; two CPU ranks where there is no GPU
  std::vector<Floats> data;
  for (auto& rank : ranks) data.emplace_back(rank.device(), 1000, rank.rank() + 1.0f);
  for (auto& rank : ranks) {
    void* mine = data[rank.rank()].data();
    rank.all_reduce({mine, 1000, DataType::float32}, {mine, 1000, DataType::float32}, ReduceOp::sum);
  }
  for (auto& rank : ranks) rank.synchronize();
  for (auto& rank : ranks) std::printf("rank %d has %g\n", rank.rank(), data[rank.rank()].values()[999]);  // 3, everywhere
}
