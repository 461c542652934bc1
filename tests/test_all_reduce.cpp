#include <collectives/verify.hpp>
#include <cstdlib>

#include "trial.hpp"
#include "test.hpp"

#if COLLECTIVES_HAS_CUDA
#include "base/cuda.hpp"
#endif

using namespace collectives;

namespace {

const std::vector<AlgorithmChoice>& every_algorithm() {
  static const std::vector<AlgorithmChoice> all = {{Algorithm::one_shot, 2},    {Algorithm::two_shot, 2},  {Algorithm::ring, 2},         {Algorithm::binary_tree, 2},
                                                   {Algorithm::kary_tree, 3},   {Algorithm::kary_tree, 5}, {Algorithm::balanced_tree, 2},
                                                   {Algorithm::double_tree, 2}, {Algorithm::packed_trees, 2}, {Algorithm::island, 2},
                                                   {Algorithm::copy_two_shot, 2}};
  return all;
}

struct Tally {
  std::size_t calls = 0;
  std::size_t wrong = 0;
};

/// Every type and operation at sizes around every boundary that a small message knows, in and out of place, aligned or not.
void try_types_and_operations(Ranks& ranks, Tally& tally, int thinning) {
  constexpr std::size_t sizes[] = {0, 1, 2, 3, 7, 16, 17, 31, 127, 257, 1031};
  std::uint64_t seed = 0;
  for (int type = 0; type < data_type_count; ++type)
    for (int op = 0; op < reduce_op_count; ++op)
      for (const std::size_t count : sizes) {
        if (++seed % static_cast<std::uint64_t>(thinning) != 0) continue;
        const Trial trial{static_cast<DataType>(type), static_cast<ReduceOp>(op), count, seed % 2 == 0, static_cast<int>(seed / 2 % 3), seed};
        CAPTURE(type, op, count, trial.in_place, trial.offset, seed);
        const std::size_t wrong = mismatches(ranks, trial);
        if (wrong != 0) CHECK(wrong == 0);
        ++tally.calls;
        tally.wrong += wrong;
      }
}

/// Sizes around the boundaries of chunks, tiles and stages, from a 1024th of the largest on. Every `thinning`th of the
/// cases, those that leave `rest`.
void try_sizes(Ranks& ranks, Tally& tally, std::size_t largest_bytes, std::uint64_t thinning = 1, std::uint64_t rest = 0) {
  std::uint64_t seed = 1000;
  for (const auto type : {DataType::bfloat16, DataType::float32, DataType::int64}) {
    for (std::size_t bytes = largest_bytes / 1024; bytes <= largest_bytes; bytes *= 4)
      for (const int around : {-1, 0, 1, 5}) {
        const std::size_t count = bytes / size_of(type) + static_cast<std::size_t>(around);
        if (count * size_of(type) > largest_bytes) continue;
        if (++seed % thinning != rest) continue;
        const Trial trial{type, ReduceOp::sum, count, seed / 2 % 2 == 0, static_cast<int>(seed / 4 % 2), seed};
        CAPTURE(name_of(type), count, trial.in_place, trial.offset, seed);
        const std::size_t wrong = mismatches(ranks, trial);
        if (wrong != 0) CHECK(wrong == 0);
        ++tally.calls;
        tally.wrong += wrong;
      }
  }
}

Options forced(AlgorithmChoice choice, Wire wire) {
  Options options;
  options.algorithm = choice;
  options.wire = wire;
  options.first_epoch = 0xffffff80u;  // every run crosses the wrap
  return options;
}

}  // namespace

TEST_CASE("every algorithm gives every rank the exact result, on host threads", "[comm][host][all_reduce][heavy]") {
  const auto wire = GENERATE(Wire::flagged, Wire::sentinel);
  for (const AlgorithmChoice choice : every_algorithm()) {
    Tally tally;
    for (int ranks = 2; ranks <= 16; ++ranks) {
      CAPTURE(to_string(choice), ranks, name_of(wire));
      Options options = forced(choice, wire);
      options.backend = Backend::host;
      options.pool_bytes = static_cast<std::size_t>(ranks) << 21;  // small: filling a pool takes longer than the calls here
      Ranks group(counted(ranks), options, 64 << 10);
      // There are eleven sizes: every third, fifth or seventh case still has every type with every operation.
      try_types_and_operations(group, tally, ranks <= 3 ? 1 : ranks <= 6 ? 3 : ranks <= 10 ? 5 : 7);
    }
    WARN(to_string(choice) << " over " << name_of(wire) << ": " << tally.calls << " calls, " << tally.wrong << " wrong");
    CHECK(tally.wrong == 0);
  }
}

TEST_CASE("messages many times larger than the slots come out exact, on host threads", "[comm][host][all_reduce][heavy]") {
  const auto wire = GENERATE(Wire::flagged, Wire::sentinel);
  for (const AlgorithmChoice choice : every_algorithm()) {
    Tally tally;
    for (const int ranks : {2, 3, 4, 7}) {
      CAPTURE(to_string(choice), ranks, name_of(wire));
      Options options = forced(choice, wire);
      options.backend = Backend::host;
      options.pool_bytes = static_cast<std::size_t>(ranks) << 20;  // slots of 128 KB a half, the least: credits from 512 KB on
      Ranks group(counted(ranks), options, 4 << 20);
      // A wire has some of the cases, the other wire others.
      try_sizes(group, tally, ranks <= 3 ? 2 << 20 : 512 << 10, 4, wire == Wire::flagged ? 0 : 1);
    }
    WARN(to_string(choice) << " over " << name_of(wire) << ": " << tally.calls << " calls, " << tally.wrong << " wrong");
    CHECK(tally.wrong == 0);
  }
}

TEST_CASE("every algorithm keeps its order on few ranks, within the slots and far beyond them", "[comm][host][all_reduce]") {
  const auto wire = GENERATE(Wire::flagged, Wire::sentinel);
  for (const AlgorithmChoice choice : every_algorithm())
    for (const int ranks : {2, 5}) {
      CAPTURE(to_string(choice), ranks, name_of(wire));
      Options options = forced(choice, wire);
      options.backend = Backend::host;
      options.pool_bytes = static_cast<std::size_t>(ranks) << 20;
      Ranks group(counted(ranks), options, 1 << 20);
      Tally tally;
      try_types_and_operations(group, tally, 61);
      const Trial large{DataType::bfloat16, ReduceOp::sum, 350'001, false, 1, 9};  // 700 KB through slots of 128 KB
      CHECK(mismatches(group, large) == 0);
      CHECK(tally.wrong == 0);
    }
}

#if COLLECTIVES_HAS_CUDA

TEST_CASE("every algorithm gives every rank the exact result, on GPUs", "[gpu][all_reduce]") {
  const int gpus = cuda_device_count();
  REQUIRE(gpus > 0);
  const auto wire = GENERATE(Wire::flagged, Wire::sentinel);
  for (const AlgorithmChoice choice : every_algorithm()) {
    Tally tally;
    for (const int ranks : {2, 3, 4, 6, 8, 16}) {
      CAPTURE(to_string(choice), ranks, name_of(wire));
      std::vector<int> devices;
      for (int rank = 0; rank < ranks; ++rank) devices.push_back(rank % gpus);
      Ranks group(devices, forced(choice, wire), 64 << 10);
      try_types_and_operations(group, tally, ranks <= 4 ? 2 : ranks);
    }
    WARN(to_string(choice) << " over " << name_of(wire) << ": " << tally.calls << " calls, " << tally.wrong << " wrong");
    CHECK(tally.wrong == 0);
  }
}

TEST_CASE("messages many times larger than the slots come out exact, on GPUs", "[gpu][all_reduce]") {
  const int gpus = cuda_device_count();
  REQUIRE(gpus > 0);
  const auto wire = GENERATE(Wire::flagged, Wire::sentinel);
  for (const AlgorithmChoice choice : every_algorithm()) {
    Tally tally;
    for (const int ranks : {2, 3, 4, 8}) {
      CAPTURE(to_string(choice), ranks, name_of(wire));
      std::vector<int> devices;
      for (int rank = 0; rank < ranks; ++rank) devices.push_back(rank % gpus);
      Options options = forced(choice, wire);
      options.pool_bytes = static_cast<std::size_t>((ranks + gpus - 1) / gpus) * (2u << 20);
      Ranks group(devices, options, 8 << 20);
      try_sizes(group, tally, 4 << 20);
    }
    WARN(to_string(choice) << " over " << name_of(wire) << ": " << tally.calls << " calls, " << tally.wrong << " wrong");
    CHECK(tally.wrong == 0);
  }
}

#endif

TEST_CASE("a check of small all-reduces finds them right, and says what was thrown", "[comm][check]") {
  const std::vector<std::size_t> sizes = {4, 64 << 10, 1 << 20};
  Options options;
  options.backend = Backend::host;
  const auto checks = check_all_reduce({0, 1, 2}, options, sizes);
  REQUIRE(checks.size() == 3);
  for (std::size_t i = 0; i < checks.size(); ++i) {
    CAPTURE(i, checks[i].error);
    CHECK((checks[i].right && checks[i].bytes == sizes[i] && checks[i].us > 0 && !checks[i].plan.empty() && !checks[i].timed_out));
  }
  options.pool_bytes = 1024;
  for (const AllReduceCheck& check : check_all_reduce({0, 1}, options, sizes)) {
    CHECK_FALSE(check.right);
    CHECK_THAT(check.error, ContainsSubstring("pool is too small"));
  }
}
