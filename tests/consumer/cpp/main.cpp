#include <collectives/communicator.hpp>
#include <collectives/topology.hpp>
#include <cstdio>
#include <vector>

// Two host ranks reduce; an error of the installed library is caught by its own type.
int main() {
  using namespace collectives;
  Options options;
  options.backend = Backend::host;
  auto ranks = Communicator::create_local({0, 1}, options);
  std::vector<std::vector<float>> values{{1, 2, 3}, {10, 20, 30}};
  for (std::size_t rank = 0; rank < ranks.size(); ++rank)
    ranks[rank].all_reduce({values[rank].data(), 3, DataType::float32}, {values[rank].data(), 3, DataType::float32}, ReduceOp::sum);
  for (auto& rank : ranks) rank.synchronize();
  for (const auto& mine : values)
    if (mine != std::vector<float>{11, 22, 33}) return std::puts("wrong sum"), 1;

  try {
    ranks[0].all_reduce({nullptr, 3, DataType::float32}, {values[0].data(), 3, DataType::float32}, ReduceOp::sum);
    return std::puts("a null buffer was taken"), 1;
  } catch (const Error& error) {
    if (error.code() != ErrorCode::invalid_argument) return std::printf("unexpected: %s\n", error.what()), 1;
  }
  if (machine_from_json(to_json(detect_machine())).nodes.empty()) return std::puts("a machine without nodes"), 1;
  std::puts("the C++ consumer works");
}
