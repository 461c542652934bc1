#include <atomic>
#include <chrono>
#include <thread>

#include "base/require.hpp"
#include "nccl_drop_in.hpp"
#include "ranks.hpp"
#include "test.hpp"
#include "variable.hpp"

using namespace collectives;

namespace {

/// A sum over all ranks of the communicators, driven by one thread.
std::size_t wrong_sums(const std::vector<NcclComm*>& comms, std::uint64_t seed) {
  const Trial trial{.count = 300, .seed = seed};
  std::vector<DropInTrial> runs;
  runs.reserve(comms.size());
  nccl_ok(drop_in().group_start());
  for (std::size_t rank = 0; rank < comms.size(); ++rank) runs.emplace_back(trial, static_cast<int>(rank), static_cast<int>(comms.size())).start(comms[rank]);
  nccl_ok(drop_in().group_end());
  std::size_t wrong = 0;
  for (const auto& run : runs) wrong += run.wrong();
  return wrong;
}

/// What a communicator's state becomes once it is no longer in progress.
NcclResult settled(NcclComm* comm) {
  NcclResult state = nccl_in_progress;
  while (state == nccl_in_progress) {
    nccl_ok(drop_in().comm_get_async_error(comm, &state));
    std::this_thread::yield();
  }
  return state;
}

/// All ranks' communicators by one thread in a group, with this configuration.
std::vector<NcclComm*> grouped(int ranks, NcclConfig* config) {
  NcclId id;
  nccl_ok(drop_in().get_unique_id(&id));
  std::vector<NcclComm*> comms(static_cast<std::size_t>(ranks));
  const bool blocking = config == nullptr || config->blocking != 0;
  nccl_ok(drop_in().group_start());
  for (int rank = 0; rank < ranks; ++rank)
    require(drop_in().comm_init_rank_config(&comms[static_cast<std::size_t>(rank)], ranks, id, rank, config) == (blocking ? nccl_success : nccl_in_progress), "it is begun");
  require(drop_in().group_end() == (blocking ? nccl_success : nccl_in_progress), "the group's end says what its communicators are");
  return comms;
}

}  // namespace

TEST_CASE("communicators are made by one thread in a group, with several ids, and with limits", "[nccl_shim][host]") {
  NcclConfig config = nccl_defaults();
  config.min_ctas = 1;
  config.max_ctas = 4;
  config.nvlink_centric_sched = 1;
  DropInRanks made(grouped(3, &config));
  CHECK(wrong_sums(made.comms, 1) == 0);

  // A caller compiled with NCCL 2.14, and one with a version to come.
  config = nccl_defaults();
  config.size = 24;
  config.version = 21400;
  config.cga_cluster_size = 77;  // padding then
  CHECK(wrong_sums(DropInRanks(grouped(2, &config)).comms, 2) == 0);
  struct {
    NcclConfig known = nccl_defaults();
    int more[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  } newer;
  newer.known.size = sizeof newer;
  newer.known.version = 23000;
  CHECK(wrong_sums(DropInRanks(grouped(2, &newer.known)).comms, 3) == 0);

  NcclId ids[2];
  for (auto& id : ids) nccl_ok(drop_in().get_unique_id(&id));
  std::vector<NcclComm*> comms(2);
  nccl_ok(drop_in().group_start());
  for (int rank = 0; rank < 2; ++rank) nccl_ok(drop_in().comm_init_rank_scalable(&comms[static_cast<std::size_t>(rank)], 2, rank, 2, ids, nullptr));
  nccl_ok(drop_in().group_end());
  CHECK(wrong_sums(DropInRanks(comms).comms, 4) == 0);
}

TEST_CASE("a nonblocking communicator is in progress until its ranks have come", "[nccl_shim][host]") {
  NcclConfig config = nccl_defaults();
  config.blocking = 0;
  NcclId id;
  nccl_ok(drop_in().get_unique_id(&id));
  std::vector<NcclComm*> comms(2);
  REQUIRE(drop_in().comm_init_rank_config(&comms[0], 2, id, 0, &config) == nccl_in_progress);
  NcclResult state = nccl_success;
  nccl_ok(drop_in().comm_get_async_error(comms[0], &state));
  CHECK(state == nccl_in_progress);
  float value = 1;
  CHECK(drop_in().all_reduce(&value, &value, 1, 7, 0, comms[0], nullptr) == nccl_invalid_argument);
  CHECK_THAT(nccl_words(), ContainsSubstring("has not ended"));
  int count = 0;
  CHECK(drop_in().comm_count(comms[0], &count) == nccl_invalid_argument);
  REQUIRE(drop_in().comm_init_rank_config(&comms[1], 2, id, 1, &config) == nccl_in_progress);
  DropInRanks made(comms);
  for (NcclComm* comm : comms) CHECK(settled(comm) == nccl_success);
  CHECK(wrong_sums(comms, 1) == 0);
}

TEST_CASE("a nonblocking communicator whose peer does not come says so, and is aborted before", "[nccl_shim][host]") {
  NcclConfig config = nccl_defaults();
  config.blocking = 0;
  NcclId ids[2];
  for (auto& id : ids) nccl_ok(drop_in().get_unique_id(&id));
  const Variable patience("COLLECTIVES_TIMEOUT_MS", "400");
  NcclComm *late = nullptr, *given_up = nullptr;
  REQUIRE(drop_in().comm_init_rank_config(&late, 2, ids[0], 0, &config) == nccl_in_progress);
  REQUIRE(drop_in().comm_init_rank_config(&given_up, 2, ids[1], 0, &config) == nccl_in_progress);
  const auto begin = std::chrono::steady_clock::now();
  nccl_ok(drop_in().comm_abort(given_up));
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::milliseconds(300));
  CHECK(settled(late) == nccl_remote_error);
  CHECK_THAT(nccl_words(), ContainsSubstring("400 ms"));
  nccl_ok(drop_in().comm_abort(late));
}

TEST_CASE("blocking and nonblocking communicators do not mix in a group", "[nccl_shim][host]") {
  NcclConfig config = nccl_defaults();
  config.blocking = 0;
  DropInRanks patient(2), made(grouped(2, &config));
  for (NcclComm* comm : made.comms) CHECK(settled(comm) == nccl_success);
  float in = 1, out = -1;
  nccl_ok(drop_in().group_start());
  nccl_ok(drop_in().all_reduce(&in, &out, 1, 7, 0, patient.comms[0], nullptr));
  CHECK(drop_in().all_reduce(&in, &out, 1, 7, 0, made.comms[0], nullptr) == nccl_invalid_argument);
  CHECK(drop_in().group_end() == nccl_invalid_argument);
  CHECK(out == -1);
  CHECK(wrong_sums(made.comms, 1) == 0);
  CHECK(wrong_sums(patient.comms, 2) == 0);
}

TEST_CASE("a blocking communicator that fails leaves none", "[nccl_shim][host]") {
  NcclId id;
  nccl_ok(drop_in().get_unique_id(&id));
  const Variable patience("COLLECTIVES_TIMEOUT_MS", "200");
  NcclComm* comms[2];
  CHECK(drop_in().comm_init_rank(&comms[0], 2, id, 0) == nccl_remote_error);
  CHECK(comms[0] == nullptr);
  CHECK_THAT(nccl_words(), ContainsSubstring("within 200 ms: 1"));
  nccl_ok(drop_in().get_unique_id(&id));
  nccl_ok(drop_in().group_start());
  for (int rank = 0; rank < 2; ++rank) nccl_ok(drop_in().comm_init_rank(&comms[rank], 3, id, rank));
  CHECK(drop_in().group_end() == nccl_remote_error);
  CHECK((comms[0] == nullptr && comms[1] == nullptr));
}

TEST_CASE("abort from another thread ends a call that waits for a peer", "[nccl_shim][host]") {
  NcclComm* comms[2];
  nccl_ok(drop_in().comm_init_all(comms, 2, nullptr));
  std::atomic<int> result{-1};
  float value = 1;
  std::thread caller([&] { result = drop_in().all_reduce(&value, &value, 1, 7, 0, comms[0], nullptr); });
  NcclResult state = nccl_success;
  for (int i = 0; i < 100; ++i) nccl_ok(drop_in().comm_get_async_error(comms[0], &state));
  CHECK(state == nccl_success);
  nccl_ok(drop_in().comm_abort(comms[0]));
  caller.join();
  // It had not begun, or it was ended.
  CHECK((result == nccl_remote_error || result == nccl_invalid_argument));
  // The peer may still finish the call for which it has everything; the next cannot end but by hearing of it.
  const NcclResult same_call = drop_in().all_reduce(&value, &value, 1, 7, 0, comms[1], nullptr);
  CHECK((same_call == nccl_success || same_call == nccl_remote_error));
  CHECK(drop_in().all_reduce(&value, &value, 1, 7, 0, comms[1], nullptr) == nccl_remote_error);
  nccl_ok(drop_in().comm_get_async_error(comms[1], &state));
  CHECK(state == nccl_remote_error);
  nccl_ok(drop_in().comm_destroy(comms[1]));
}

TEST_CASE("a finalized communicator takes no more calls", "[nccl_shim][host]") {
  DropInRanks made(2);
  CHECK(wrong_sums(made.comms, 1) == 0);
  float value = 1;
  for (NcclComm* comm : made.comms) {
    nccl_ok(drop_in().comm_finalize(comm));
    CHECK(drop_in().comm_finalize(comm) == nccl_invalid_argument);
    CHECK(drop_in().all_reduce(&value, &value, 1, 7, 0, comm, nullptr) == nccl_invalid_argument);
    NcclResult state = nccl_internal_error;
    nccl_ok(drop_in().comm_get_async_error(comm, &state));
    CHECK(state == nccl_success);
  }
}

TEST_CASE("a nonblocking communicator's finalize is in progress and then done", "[nccl_shim][host]") {
  NcclConfig config = nccl_defaults();
  config.blocking = 0;
  DropInRanks made(grouped(2, &config));
  for (NcclComm* comm : made.comms) REQUIRE(settled(comm) == nccl_success);
  CHECK(wrong_sums(made.comms, 1) == 0);
  float value = 1;
  for (NcclComm* comm : made.comms) {
    CHECK(drop_in().comm_finalize(comm) == nccl_in_progress);
    CHECK(drop_in().comm_finalize(comm) == nccl_invalid_argument);
    CHECK(drop_in().all_reduce(&value, &value, 1, 7, 0, comm, nullptr) == nccl_invalid_argument);
    CHECK(settled(comm) == nccl_success);
  }
}

TEST_CASE("a finalize that finds a communicator dead says so", "[nccl_shim][host]") {
  const Variable patience("COLLECTIVES_TIMEOUT_MS", "300");
  DropInRanks made(2);
  float value = 1;
  REQUIRE(drop_in().all_reduce(&value, &value, 1, 7, 0, made.comms[0], nullptr) == nccl_remote_error);
  CHECK(drop_in().comm_finalize(made.comms[0]) == nccl_remote_error);
}

TEST_CASE("those who stay shrink a communicator, whether it lives, is revoked or is ended by it", "[nccl_shim][host]") {
  const int how = GENERATE(0, 1, 2);
  CAPTURE(how);
  DropInRanks parents(4);
  CHECK(wrong_sums(parents.comms, 1) == 0);
  if (how == 1)
    for (NcclComm* comm : parents.comms) nccl_ok(drop_in().comm_revoke(comm, 0));
  int excluded[] = {1};
  NcclComm* none = nullptr;
  CHECK(drop_in().comm_shrink(parents.comms[1], excluded, 1, &none, nullptr, 0) == nccl_invalid_argument);
  CHECK(drop_in().comm_shrink(parents.comms[0], excluded, 0, &none, nullptr, 0) == nccl_invalid_argument);
  CHECK(drop_in().comm_shrink(parents.comms[0], excluded, 1, &none, nullptr, 7) == nccl_invalid_argument);
  int beyond[] = {4};
  CHECK(drop_in().comm_shrink(parents.comms[0], beyond, 1, &none, nullptr, 0) == nccl_invalid_argument);
  std::vector<NcclComm*> children;
  std::vector<NcclComm**> places;
  children.resize(3);
  nccl_ok(drop_in().group_start());
  int next = 0;
  for (int rank = 0; rank < 4; ++rank)
    if (rank != 1) nccl_ok(drop_in().comm_shrink(parents.comms[static_cast<std::size_t>(rank)], excluded, 1, &children[static_cast<std::size_t>(next++)], nullptr, how == 2 ? 1 : 0));
  nccl_ok(drop_in().group_end());
  DropInRanks made(children);
  for (int rank = 0; rank < 3; ++rank) {
    int own = -1, count = -1;
    nccl_ok(drop_in().comm_user_rank(children[static_cast<std::size_t>(rank)], &own));
    nccl_ok(drop_in().comm_count(children[static_cast<std::size_t>(rank)], &count));
    CHECK((own == rank && count == 3));
  }
  CHECK(wrong_sums(children, 2) == 0);
  if (how == 0) CHECK(wrong_sums(parents.comms, 3) == 0);
}

TEST_CASE("processes that outlive a peer shrink and go on", "[nccl_shim][host][processes]") {
  NcclId id;
  nccl_ok(drop_in().get_unique_id(&id));
  const auto outcomes = run_ranks(RanksAre::processes, 3, [&](int rank) {
    NcclComm* comm = nullptr;
    nccl_ok(drop_in().comm_init_rank(&comm, 3, id, rank));
    if (rank == 1) ::_exit(0);
    float value = 1;
    require(drop_in().all_reduce(&value, &value, 1, 7, 0, comm, nullptr) == nccl_remote_error, "a lost peer is a remote error");
    int excluded[] = {1};
    NcclComm* child = nullptr;
    nccl_ok(drop_in().comm_shrink(comm, excluded, 1, &child, nullptr, 1));
    value = static_cast<float>(rank + 1);
    nccl_ok(drop_in().all_reduce(&value, &value, 1, 7, 0, child, nullptr));
    require(value == 4, "the sum of those who stayed");
    nccl_ok(drop_in().comm_abort(comm));
    nccl_ok(drop_in().comm_destroy(child));
  });
  CHECK(outcomes[0] == "ok");
  CHECK(outcomes[2] == "ok");
}

TEST_CASE("a split gives every color its own communicator, ordered by key, and the parent lives on", "[nccl_shim][host]") {
  const bool blocking = GENERATE(true, false);
  CAPTURE(blocking);
  NcclConfig config = nccl_defaults();
  config.blocking = blocking ? 1 : 0;
  DropInRanks parents(grouped(5, &config));
  for (NcclComm* comm : parents.comms) REQUIRE(settled(comm) == nccl_success);
  // Ranks 0, 2 and 4 in reverse; 1 alone; 3 nowhere.
  const int colors[] = {0, 7, 0, nccl_no_color, 0};
  std::vector<NcclComm*> children(5, reinterpret_cast<NcclComm*>(1));
  nccl_ok(drop_in().group_start());
  for (std::size_t rank = 0; rank < 5; ++rank)
    CHECK(drop_in().comm_split(parents.comms[rank], colors[rank], -static_cast<int>(rank), &children[rank], nullptr) == (blocking ? nccl_success : nccl_in_progress));
  CHECK(drop_in().group_end() == (blocking ? nccl_success : nccl_in_progress));
  for (NcclComm* comm : parents.comms) CHECK(settled(comm) == nccl_success);
  CHECK(children[3] == nullptr);
  for (const std::size_t rank : {0u, 1u, 2u, 4u}) REQUIRE(settled(children[rank]) == nccl_success);
  CHECK(wrong_sums({children[4], children[2], children[0]}, 1) == 0);
  CHECK(wrong_sums({children[1]}, 2) == 0);
  int own = -1;
  nccl_ok(drop_in().comm_user_rank(children[4], &own));
  CHECK(own == 0);
  CHECK(wrong_sums(parents.comms, 3) == 0);

  // A child has children, and outlives its parent.
  std::vector<NcclComm*> grandchildren(2);
  nccl_ok(drop_in().group_start());
  for (const std::size_t rank : {0u, 2u, 4u}) {
    NcclComm* none = nullptr;
    (void)drop_in().comm_split(children[rank], rank == 2 ? nccl_no_color : 1, 0, rank == 2 ? &none : &grandchildren[rank / 4], nullptr);
  }
  (void)drop_in().group_end();
  for (NcclComm* comm : grandchildren) REQUIRE(settled(comm) == nccl_success);
  for (const std::size_t rank : {0u, 1u, 2u, 4u}) {
    CHECK(settled(children[rank]) == nccl_success);
    nccl_ok(drop_in().comm_destroy(children[rank]));
  }
  DropInRanks last({grandchildren[1], grandchildren[0]});
  CHECK(wrong_sums(last.comms, 4) == 0);
  NcclComm* none = nullptr;
  CHECK(drop_in().comm_split(parents.comms[0], -2, 0, &none, nullptr) == nccl_invalid_argument);
  CHECK(drop_in().comm_split(parents.comms[0], 0, 0, nullptr, nullptr) == nccl_invalid_argument);
}

TEST_CASE("processes split and go on apart", "[nccl_shim][host][processes]") {
  NcclId id;
  nccl_ok(drop_in().get_unique_id(&id));
  const auto outcomes = run_ranks(RanksAre::processes, 4, [&](int rank) {
    NcclComm *comm = nullptr, *child = nullptr;
    nccl_ok(drop_in().comm_init_rank(&comm, 4, id, rank));
    nccl_ok(drop_in().comm_split(comm, rank % 2, rank, &child, nullptr));
    float value = static_cast<float>(1 << rank);
    nccl_ok(drop_in().all_reduce(&value, &value, 1, 7, 0, child, nullptr));
    require(value == (rank % 2 == 0 ? 5.0F : 10.0F), "the sum of those with this color");
    nccl_ok(drop_in().comm_destroy(child));
    nccl_ok(drop_in().comm_destroy(comm));
  });
  for (const auto& outcome : outcomes) CHECK(outcome == "ok");
}

TEST_CASE("a communicator of one rank does everything with itself", "[nccl_shim][host]") {
  NcclId id;
  nccl_ok(drop_in().get_unique_id(&id));
  NcclComm *comm = nullptr, *child = nullptr;
  nccl_ok(drop_in().comm_init_rank(&comm, 1, id, 0));
  nccl_ok(drop_in().comm_split(comm, 0, 0, &child, nullptr));
  DropInRanks one({comm}), part({child}), all(1);
  for (int collective = 0; collective < collective_count; ++collective) {
    const Trial trial{.count = 77, .seed = 5, .collective = static_cast<Collective>(collective)};
    for (NcclComm* each : {comm, child, all.comms[0]}) {
      DropInTrial run(trial, 0, 1);
      run.start(each);
      CHECK(run.wrong() == 0);
    }
  }
}
