#include <collectives/error.hpp>

#include "base/require.hpp"
#if COLLECTIVES_HAS_CUDA
#include "base/cuda.hpp"
#endif
#include "nccl_drop_in.hpp"
#include "ranks.hpp"
#include "test.hpp"

using namespace collectives;

namespace {

bool can_be_in_place(Collective collective) { return collective != Collective::all_to_all && collective != Collective::exchange; }

/// Every collective with every type, in turn with every operation, count, root and place.
std::vector<Trial> trials(int ranks) {
  std::vector<Trial> all;
  std::uint64_t seed = 1;
  for (int collective = 0; collective < collective_count; ++collective)
    for (int type = 0; type < data_type_count; ++type)
      for (const std::size_t count : {std::size_t{1}, std::size_t{37}, std::size_t{1500}}) {
        ++seed;
        const auto kind = static_cast<Collective>(collective);
        all.push_back({.type = static_cast<DataType>(type),
                       .op = static_cast<ReduceOp>(seed % reduce_op_count),
                       .count = count,
                       .in_place = can_be_in_place(kind) && seed % 2 == 0,
                       .seed = seed,
                       .collective = kind,
                       .root = static_cast<int>(seed % static_cast<std::uint64_t>(ranks))});
      }
  return all;
}

void expect_right(const DropInTrial& run, const Trial& trial) {
  require(run.wrong() == 0, [&] { return std::string(name_of(trial.collective)) + " of " + std::to_string(trial.count) + " " + name_of(trial.type) + " is wrong"; });
}

/// All trials, as an engine's rank drives them.
void try_all(NcclComm* comm, int rank, int ranks) {
  for (const Trial& trial : trials(ranks)) {
    DropInTrial run(trial, rank, ranks);
    run.start(comm);
    expect_right(run, trial);
  }
}

}  // namespace

TEST_CASE("one thread drives every collective of all ranks in groups through NCCL's functions", "[nccl_shim][host]") {
  const int ranks = GENERATE(2, 3, 4);
  DropInRanks made(ranks);
  std::size_t tried = 0;
  for (const Trial& trial : trials(ranks)) {
    std::vector<DropInTrial> runs;
    runs.reserve(static_cast<std::size_t>(ranks));
    nccl_ok(drop_in().group_start());
    for (int rank = 0; rank < ranks; ++rank) runs.emplace_back(trial, rank, ranks).start(made.comms[static_cast<std::size_t>(rank)]);
    nccl_ok(drop_in().group_end());
    for (const auto& run : runs) expect_right(run, trial);
    ++tried;
  }
  CHECK(tried == std::size_t{3} * collective_count * data_type_count);
}

TEST_CASE("ranks that are threads or processes do every collective through NCCL's functions", "[nccl_shim][host][processes]") {
  const auto kind = GENERATE(RanksAre::threads, RanksAre::processes);
  const int ranks = GENERATE(2, 3);
  NcclId id;
  nccl_ok(drop_in().get_unique_id(&id));
  const auto outcomes = run_ranks(kind, ranks, [&](int rank) {
    NcclComm* comm = nullptr;
    nccl_ok(drop_in().comm_init_rank(&comm, ranks, id, rank));
    int count = -1, own = -1, device = -1;
    nccl_ok(drop_in().comm_count(comm, &count));
    nccl_ok(drop_in().comm_user_rank(comm, &own));
    nccl_ok(drop_in().comm_cu_device(comm, &device));
    require(count == ranks && own == rank && device >= 0, "a communicator knows its place");
    try_all(comm, rank, ranks);
    nccl_ok(drop_in().comm_finalize(comm));
    nccl_ok(drop_in().comm_destroy(comm));
  });
  for (const auto& outcome : outcomes) CHECK(outcome == "ok");
}

TEST_CASE("a group holds many calls of many communicators, in the order they were asked for", "[nccl_shim][host]") {
  DropInRanks made(3);
  std::vector<Trial> all = trials(3);
  std::vector<DropInTrial> runs;
  runs.reserve(3 * all.size());
  nccl_ok(drop_in().group_start());
  for (const Trial& trial : all) {
    if (trial.collective == Collective::exchange) continue;
    nccl_ok(drop_in().group_start());
    for (int rank = 0; rank < 3; ++rank) runs.emplace_back(trial, rank, 3).start(made.comms[static_cast<std::size_t>(rank)]);
    nccl_ok(drop_in().group_end());
  }
  nccl_ok(drop_in().group_end());
  for (const auto& run : runs) CHECK(run.wrong() == 0);
}

TEST_CASE("a call without elements is none, on some ranks or on all", "[nccl_shim][host]") {
  DropInRanks made(2);
  nccl_ok(drop_in().all_reduce(nullptr, nullptr, 0, 7, 0, made.comms[0], nullptr));
  nccl_ok(drop_in().send(nullptr, 0, 7, 1, made.comms[0], nullptr));
  nccl_ok(drop_in().recv(nullptr, 0, 7, 0, made.comms[1], nullptr));
  const Trial trial{.count = 5, .seed = 3};
  std::vector<DropInTrial> runs;
  runs.reserve(2);
  nccl_ok(drop_in().group_start());
  for (int rank = 0; rank < 2; ++rank) runs.emplace_back(trial, rank, 2).start(made.comms[static_cast<std::size_t>(rank)]);
  nccl_ok(drop_in().group_end());
  for (const auto& run : runs) CHECK(run.wrong() == 0);
}

TEST_CASE("a group can be priced instead of run", "[nccl_shim][host]") {
  DropInRanks made(2);
  std::vector<float> in(1000, 1), out(1000, -1);
  NcclSimInfo info{sizeof(NcclSimInfo), nccl_sim_info_magic, nccl_version, -1.0F};
  nccl_ok(drop_in().group_start());
  for (NcclComm* comm : made.comms) nccl_ok(drop_in().all_reduce(in.data(), out.data(), in.size(), 7, 0, comm, nullptr));
  nccl_ok(drop_in().group_simulate_end(&info));
  CHECK(info.estimated_time > 0);
  CHECK(out == std::vector<float>(1000, -1));
  CHECK(drop_in().group_end() == nccl_invalid_usage);
}

TEST_CASE("a group's messages between two ranks arrive in the order they were sent, and only those who have some take part", "[nccl_shim][host]") {
  DropInRanks made(3);
  std::vector<int> first(10), second(700), got_first(10), got_second(700);
  std::iota(first.begin(), first.end(), 1);
  std::iota(second.begin(), second.end(), 1000);
  constexpr int int32 = 2;
  for (int round = 0; round < 3; ++round) {
    nccl_ok(drop_in().group_start());
    nccl_ok(drop_in().send(first.data(), first.size(), int32, 2, made.comms[0], nullptr));
    nccl_ok(drop_in().recv(got_first.data(), got_first.size(), int32, 0, made.comms[2], nullptr));
    nccl_ok(drop_in().send(second.data(), second.size(), int32, 2, made.comms[0], nullptr));
    nccl_ok(drop_in().recv(got_second.data(), got_second.size(), int32, 0, made.comms[2], nullptr));
    nccl_ok(drop_in().group_end());
    CHECK(got_first == first);
    CHECK(got_second == second);
    first[0] = round;
    second[0] = round;
    std::vector<DropInTrial> runs;
    runs.reserve(3);
    const Trial trial{.count = 60, .seed = static_cast<std::uint64_t>(round)};
    nccl_ok(drop_in().group_start());
    for (int rank = 0; rank < 3; ++rank) runs.emplace_back(trial, rank, 3).start(made.comms[static_cast<std::size_t>(rank)]);
    nccl_ok(drop_in().group_end());
    for (const auto& run : runs) CHECK(run.wrong() == 0);
  }
}

TEST_CASE("sends and receives outside groups meet between two threads", "[nccl_shim][host]") {
  NcclId id;
  nccl_ok(drop_in().get_unique_id(&id));
  const auto outcomes = run_ranks(RanksAre::threads, 3, [&](int rank) {
    NcclComm* comm = nullptr;
    nccl_ok(drop_in().comm_init_rank(&comm, 3, id, rank));
    double value = rank;
    // A pipeline: each rank hands on what it was given.
    if (rank > 0) nccl_ok(drop_in().recv(&value, 1, 8, rank - 1, comm, nullptr));
    value += 10;
    if (rank < 2) nccl_ok(drop_in().send(&value, 1, 8, rank + 1, comm, nullptr));
    require(value == 10 * (rank + 1), "every rank before has added its ten");
    nccl_ok(drop_in().comm_destroy(comm));
  });
  for (const auto& outcome : outcomes) CHECK(outcome == "ok");
}

TEST_CASE("a group takes more messages than the library moves at once", "[nccl_shim][host]") {
  constexpr int int32 = 2, messages = 130;
  DropInRanks made(3);
  // Rank 0 has all of them, to and from both others, in an order of its own; rank 1 sends itself some as well.
  std::vector<std::vector<int>> from(3), to(3);
  for (int peer = 0; peer < 3; ++peer) {
    from[static_cast<std::size_t>(peer)].assign(messages * 3, -1);
    for (int i = 0; i < messages * 3; ++i) to[static_cast<std::size_t>(peer)].push_back(peer * 10'000 + i);
  }
  std::vector<int> got(messages, -1);
  nccl_ok(drop_in().group_start());
  for (int i = 0; i < messages; ++i) {
    const auto at = static_cast<std::ptrdiff_t>(3 * i);
    for (int peer = 1; peer < 3; ++peer) {
      nccl_ok(drop_in().send(to[static_cast<std::size_t>(peer)].data() + at, 3, int32, peer, made.comms[0], nullptr));
      nccl_ok(drop_in().recv(from[static_cast<std::size_t>(peer)].data() + at, 3, int32, 0, made.comms[static_cast<std::size_t>(peer)], nullptr));
    }
    nccl_ok(drop_in().send(&to[1][static_cast<std::size_t>(i)], 1, int32, 1, made.comms[1], nullptr));
    nccl_ok(drop_in().recv(&got[static_cast<std::size_t>(i)], 1, int32, 1, made.comms[1], nullptr));
  }
  nccl_ok(drop_in().group_end());
  CHECK(from[1] == to[1]);
  CHECK(from[2] == to[2]);
  CHECK(std::equal(got.begin(), got.end(), to[1].begin()));
}

#if COLLECTIVES_HAS_CUDA
TEST_CASE("every collective of the GPUs through NCCL's functions, by one thread and by a thread each", "[nccl_shim][gpu]") {
  const int ranks = std::min(cuda_device_count(), 4);
  if (ranks < 2) {
    WARN("skipped: fewer than two GPUs");
    return;
  }
  DropInRanks made(ranks);
  for (const Trial& trial : trials(ranks)) {
    std::vector<DropInTrial> runs;
    runs.reserve(static_cast<std::size_t>(ranks));
    for (int rank = 0; rank < ranks; ++rank) runs.emplace_back(trial, rank, ranks, Backend::cuda);
    nccl_ok(drop_in().group_start());
    for (int rank = 0; rank < ranks; ++rank) runs[static_cast<std::size_t>(rank)].start(made.comms[static_cast<std::size_t>(rank)]);
    nccl_ok(drop_in().group_end());
    for (const auto& run : runs) expect_right(run, trial);
  }

  NcclId id;
  nccl_ok(drop_in().get_unique_id(&id));
  const auto outcomes = run_ranks(RanksAre::threads, ranks, [&](int rank) {
    const DeviceScope device(rank);
    NcclComm* comm = nullptr;
    nccl_ok(drop_in().comm_init_rank(&comm, ranks, id, rank));
    int own = -1;
    nccl_ok(drop_in().comm_cu_device(comm, &own));
    require(own == rank, "a communicator is on the device that was current");
    for (const Trial& trial : trials(ranks)) {
      DropInTrial run(trial, rank, ranks, Backend::cuda);
      run.start(comm);
      expect_right(run, trial);
    }
    nccl_ok(drop_in().comm_destroy(comm));
  });
  for (const auto& outcome : outcomes) CHECK(outcome == "ok");
}
#endif
