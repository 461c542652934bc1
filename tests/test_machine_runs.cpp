// The channels and islands that are planned for whole machines, run on host threads that stand for their GPUs.
#include <cstdlib>
#include <numeric>

#include "machines.hpp"
#include "test.hpp"
#include "trial.hpp"

using namespace collectives;

namespace {

struct Variable {
  const char* name;
  Variable(const char* name, const std::string& value) : name(name) { ::setenv(name, value.c_str(), 1); }
  ~Variable() { ::unsetenv(name); }
};

Ranks ranks_of(const char* file, Algorithm algorithm, Wire wire) {
  const Variable machine("COLLECTIVES_MACHINE", machine_path(file));
  std::vector<int> devices(test_machine(file).gpus().size());
  std::iota(devices.begin(), devices.end(), 0);
  Options options;
  options.algorithm = AlgorithmChoice{algorithm};
  options.wire = wire;
  options.backend = Backend::host;
  options.pool_bytes = devices.size() << 21;
  options.first_epoch = 0xfffffff0u;
  return Ranks(devices, options, std::size_t{600} << 10);
}

}  // namespace

TEST_CASE("what is planned for a machine's large messages gives exact results on host ranks", "[comm][host][plans][heavy]") {
  const auto algorithm = GENERATE(Algorithm::packed_trees, Algorithm::island, Algorithm::ring);
  for (const char* file : machine_files)
    for (const Wire wire : {Wire::flagged, Wire::sentinel}) {
      Ranks ranks = ranks_of(file, algorithm, wire);
      std::uint64_t seed = 0;
      for (const std::size_t count : {1u, 13u, 1000u, 131'072u}) {
        ++seed;
        const Trial trial{seed % 2 == 0 ? DataType::float32 : DataType::bfloat16, static_cast<ReduceOp>(seed % reduce_op_count), count, seed % 3 == 0, 0, seed};
        CAPTURE(file, name_of(algorithm), name_of(wire), count);
        CHECK(mismatches(ranks, trial) == 0);
      }
    }
}
