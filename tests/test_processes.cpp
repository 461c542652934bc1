#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/require.hpp"
#include "ranks.hpp"
#include "test.hpp"
#include "trial.hpp"

using namespace collectives;

namespace {

constexpr std::uint32_t patience_ms = 60'000;

Options on_host() {
  Options options;
  options.backend = Backend::host;
  options.timeout_ms = patience_ms;
  options.pool_bytes = 16 << 20;  // for all ranks of this process
  options.first_epoch = 0xfffffff0u;
  return options;
}

/// A temporary directory of this test's own, so that what is left behind can be seen.
class OwnDirectory {
 public:
  OwnDirectory() : path_((std::filesystem::temp_directory_path() / "ranks-XXXXXX").string()) {
    require(::mkdtemp(path_.data()) != nullptr, "a temporary directory");
    ::setenv("TMPDIR", path_.c_str(), 1);
    ::setenv("XDG_RUNTIME_DIR", path_.c_str(), 1);
  }
  ~OwnDirectory() {
    ::unsetenv("TMPDIR");
    ::unsetenv("XDG_RUNTIME_DIR");
    std::filesystem::remove_all(path_);
  }
  bool is_empty() const { return std::filesystem::is_empty(path_); }

 private:
  std::string path_;
};

/// Does this process map anything that has a name in the shared-memory directory?
bool maps_named_memory() {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);)
    if (line.find("/dev/shm/") != std::string::npos) return true;
  return false;
}

/// Every type, in and out of place, from nothing to 64 KB; floats to a megabyte.
std::size_t try_every_type(Communicator& communicator) {
  std::uint64_t seed = 0;
  for (int type = 0; type < data_type_count; ++type) {
    const std::size_t bytes = static_cast<DataType>(type) == DataType::float32 ? 1 << 20 : 64 << 10;
    for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{1031}, bytes / size_of(static_cast<DataType>(type))})
      for (const bool in_place : {false, true}) {
        ++seed;
        const Trial trial{static_cast<DataType>(type), static_cast<ReduceOp>(seed % reduce_op_count), count, in_place, static_cast<int>(seed / 2 % 3), seed};
        const std::size_t wrong = own_mismatches(communicator, trial);
        require(wrong == 0, [&] { return fmt::format("{} of {} {}: {} elements wrong", name_of(trial.op), count, name_of(trial.type), wrong); });
      }
  }
  return seed;
}

}  // namespace

TEST_CASE("ranks that meet by an id reduce every type exactly, as processes and as threads", "[comm][host][processes]") {
  const auto kind = GENERATE(RanksAre::threads, RanksAre::processes);
  const int size = GENERATE(2, 3, 4);
  CAPTURE(size, kind == RanksAre::processes);
  const OwnDirectory directory;
  const auto before = open_descriptors();
  const UniqueId id = make_unique_id();
  const auto outcomes = run_ranks(kind, size, [&](int rank) {
    const auto own = open_descriptors();
    {
      Communicator communicator = Communicator::create(id, rank, size, on_host());
      require(communicator.rank() == rank && communicator.size() == size && communicator.device() == -1 && communicator.backend() == Backend::host,
              "a communicator knows its place");
      require(try_every_type(communicator) == 8 * data_type_count, "eight calls of each type a rank");
      require(!maps_named_memory(), "shared memory has no name");
      communicator.barrier();
      communicator.synchronize();
    }
    require(kind == RanksAre::threads || open_descriptors() == own, "the descriptors are closed");
  });
  for (const auto& outcome : outcomes) CHECK(outcome == "ok");
  CHECK(open_descriptors() == before);
  CHECK(directory.is_empty());
}

TEST_CASE("rank 0's machine is everyone's plan, whatever the others know", "[comm][host][processes]") {
  const UniqueId id = make_unique_id();
  const auto outcomes = run_ranks(RanksAre::processes, 4, [&](int rank) {
    if (rank == 0) ::setenv("COLLECTIVES_MACHINE", TEST_MACHINES_DIR "/nvlink_pairs_4x.json", 1);
    auto communicator = Communicator::create(id, rank, 4, on_host());
    const Algorithm algorithm = communicator.plan_for(16 << 20, DataType::float32, ReduceOp::sum).choice.algorithm;
    if (algorithm == Algorithm::one_shot || algorithm == Algorithm::two_shot) throw Error(ErrorCode::internal, "rank " + std::to_string(rank) + " plans for another machine: " + name_of(algorithm));
    (void)try_every_type(communicator);
  });
  CHECK(outcomes == std::vector<std::string>(4, "ok"));
}

TEST_CASE("no rank passes a barrier before the last has come to it", "[comm][host][processes]") {
  const auto kind = GENERATE(RanksAre::threads, RanksAre::processes);
  const int size = 3, rounds = 50;
  // A page that all ranks see: how many barriers each has come to.
  auto* arrived = static_cast<std::atomic<int>*>(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  REQUIRE(arrived != MAP_FAILED);
  const UniqueId id = make_unique_id();
  const auto outcomes = run_ranks(kind, size, [&](int rank) {
    Communicator communicator = Communicator::create(id, rank, size, on_host());
    for (int round = 1; round <= rounds; ++round) {
      // Another rank is late each time.
      if (round % size == rank) std::this_thread::sleep_for(std::chrono::microseconds(200));
      arrived[rank].store(round);
      communicator.barrier();
      communicator.synchronize();
      for (int peer = 0; peer < size; ++peer) require(arrived[peer].load() >= round, "every rank has come");
    }
  });
  for (const auto& outcome : outcomes) CHECK(outcome == "ok");
  ::munmap(arrived, 4096);
}

TEST_CASE("a rank that leaves after its last call does not disturb those that still work on it", "[comm][host][processes]") {
  // A chain: the head has its result long before the tail, and goes.
  const int size = 4;
  std::size_t calls = 0;
  for (int attempt = 0; attempt < 10; ++attempt) {
    const UniqueId id = make_unique_id();
    const auto outcomes = run_ranks(RanksAre::processes, size, [&](int rank) {
      Options options = on_host();
      options.pool_bytes = 4 << 20;
      options.algorithm = AlgorithmChoice{Algorithm::kary_tree, 1};
      Communicator communicator = Communicator::create(id, rank, size, options);
      std::vector<float> data(1 << 18, 1.0F);
      communicator.all_reduce({data.data(), data.size(), DataType::float32}, {data.data(), data.size(), DataType::float32}, ReduceOp::sum);
      communicator.synchronize();
      require(std::all_of(data.begin(), data.end(), [](float x) { return x == 4.0F; }), "the sum is exact");
    });
    for (const auto& outcome : outcomes) CHECK(outcome == "ok");
    ++calls;
  }
  WARN(calls << " communicators of " << size << " processes left in any order");
}

TEST_CASE("ranks that were given different options say which", "[comm][host][processes]") {
  const auto kind = GENERATE(RanksAre::threads, RanksAre::processes);
  const int what = GENERATE(0, 1, 2, 3, 4);
  CAPTURE(what);
  const UniqueId id = make_unique_id();
  const auto outcomes = run_ranks(kind, 3, [&](int rank) {
    Options options = on_host();
    if (rank == 1) {
      if (what == 0) options.algorithm = AlgorithmChoice{Algorithm::ring};
      if (what == 1) options.wire = Wire::sentinel;
      if (what == 2) options.invariant = true;
      if (what == 3) options.first_epoch = 7;
      if (what == 4) options.max_blocks = 3;
    }
    Communicator::create(id, rank, 3, options);
  });
  for (const auto& outcome : outcomes) {
    CHECK_THAT(outcome, ContainsSubstring("mismatched calls: "));
    CHECK_THAT(outcome, ContainsSubstring("different options"));
  }
  CHECK_THAT(outcomes[0], ContainsSubstring("ranks 0 and 1"));
  CHECK_THAT(outcomes[1], ContainsSubstring("ranks 1 and 0"));
}

TEST_CASE("pools of different bounds are no disagreement", "[comm][host][processes]") {
  const UniqueId id = make_unique_id();
  const auto outcomes = run_ranks(RanksAre::processes, 3, [&](int rank) {
    Options options = on_host();
    options.pool_bytes = static_cast<std::size_t>(8 + 8 * rank) << 20;
    Communicator communicator = Communicator::create(id, rank, 3, options);
    require(own_mismatches(communicator, {DataType::int64, ReduceOp::sum, 200'000, false, 0, 5}) == 0, "the sum is exact");
    communicator.barrier();
    communicator.synchronize();
  });
  for (const auto& outcome : outcomes) CHECK(outcome == "ok");
}

TEST_CASE("a communicator whose ranks do not all come times out and names those", "[comm][host][processes]") {
  const auto kind = GENERATE(RanksAre::threads, RanksAre::processes);
  const OwnDirectory directory;
  const UniqueId id = make_unique_id();
  const auto outcomes = run_ranks(kind, 3, [&](int rank) {
    if (rank == 1) return;
    Options options = on_host();
    options.timeout_ms = 300;
    Communicator::create(id, rank, 3, options);
  });
  CHECK(outcomes[1] == "ok");
  for (const int rank : {0, 2}) {
    CHECK_THAT(outcomes[static_cast<std::size_t>(rank)], ContainsSubstring("timeout: "));
    CHECK_THAT(outcomes[static_cast<std::size_t>(rank)], ContainsSubstring("within 300 ms: 1"));
  }
  CHECK(directory.is_empty());
}

TEST_CASE("a rank or a size out of range is refused before anyone is waited for", "[comm][host][processes]") {
  const UniqueId id = make_unique_id();
  struct Wrong {
    int rank, size;
    const char* text;
  };
  for (const Wrong& wrong : {Wrong{-1, 2, "rank -1 of 2: expected 0 to 1"}, Wrong{2, 2, "rank 2 of 2: expected 0 to 1"}, Wrong{1, 1, "rank 1 of 1: expected 0 to 0"},
                             Wrong{0, 17, "17 ranks: expected 1 to 16"}, Wrong{0, 0, "0 ranks"}, Wrong{0, -4, "-4 ranks"}}) {
    const std::string outcome = outcome_of([&](int) { Communicator::create(id, wrong.rank, wrong.size, on_host()); }, 0);
    CHECK_THAT(outcome, ContainsSubstring("invalid argument: "));
    CHECK_THAT(outcome, ContainsSubstring(wrong.text));
  }
  // The id is still good.
  const auto outcomes = run_ranks(RanksAre::threads, 2, [&](int rank) { Communicator::create(id, rank, 2, on_host()); });
  for (const auto& outcome : outcomes) CHECK(outcome == "ok");
  CHECK_THAT(outcome_of([&](int) { Communicator::create(UniqueId{}, 0, 2, on_host()); }, 0), ContainsSubstring("invalid argument: "));
  CHECK_THAT(outcome_of([&](int) { Communicator::create(id, 0, 2, on_host()); }, 0), ContainsSubstring("an id forms one communicator, once"));
}

TEST_CASE("a rank that comes twice, and ranks told different sizes, are refused", "[comm][host][processes]") {
  const UniqueId id = make_unique_id();
  const auto outcomes = run_ranks(RanksAre::threads, 2, [&](int rank) { Communicator::create(id, rank, 2 + rank, on_host()); });
  for (const auto& outcome : outcomes) CHECK_THAT(outcome, ContainsSubstring("expected one number of ranks"));

  const UniqueId twice = make_unique_id();
  const auto both = run_ranks(RanksAre::threads, 2, [&](int) {
    Options options = on_host();
    options.timeout_ms = 300;
    Communicator::create(twice, 0, 2, options);
  });
  const bool refused = both[0].find("duplicate rank") != std::string::npos || both[1].find("duplicate rank") != std::string::npos;
  CHECK(refused);
}
