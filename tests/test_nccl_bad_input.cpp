#include <cstring>
#include <set>

#include "nccl_drop_in.hpp"
#include "test.hpp"

using namespace collectives;

namespace {

/// A refusal has NCCL's code and words that say what was expected.
void refused(NcclResult result, NcclResult code, const std::string& words) {
  CHECK(result == code);
  CHECK_THAT(nccl_words(), ContainsSubstring(words));
}

NcclId fresh_id() {
  NcclId id;
  nccl_ok(drop_in().get_unique_id(&id));
  return id;
}

}  // namespace

TEST_CASE("every function of NCCL 2.28.9 is there, and says that it is that version", "[nccl_shim]") {
  const NcclFunctions& all = drop_in();
  const auto* members = reinterpret_cast<void* const*>(&all);
  for (std::size_t i = 0; i < sizeof all / sizeof(void*); ++i) CHECK(members[i] != nullptr);
  static_assert(sizeof(NcclFunctions) == 53 * sizeof(void*));
  int version = 0;
  nccl_ok(all.get_version(&version));
  CHECK(version == 22809);
  std::set<std::string> texts;
  for (int code = -1; code <= nccl_result_count; ++code) texts.insert(all.get_error_string(static_cast<NcclResult>(code)));
  CHECK(texts.size() == nccl_result_count + 1);
}

TEST_CASE("a configuration that was not initialised or is out of range is refused", "[nccl_shim]") {
  const NcclId id = fresh_id();
  const auto attempt = [&](auto change) {
    NcclConfig config = nccl_defaults();
    change(config);
    NcclComm* comm = reinterpret_cast<NcclComm*>(1);
    const NcclResult result = drop_in().comm_init_rank_config(&comm, 2, id, 0, &config);
    CHECK(comm == nullptr);
    return result;
  };
  refused(attempt([](NcclConfig& c) { c.magic = 1; }), nccl_invalid_argument, "magic");
  refused(attempt([](NcclConfig& c) { c.size = 0; }), nccl_invalid_argument, "size is 0");
  refused(attempt([](NcclConfig& c) { c.size = 1 << 20; }), nccl_invalid_argument, "size is 1048576");
  refused(attempt([](NcclConfig& c) { c.blocking = 2; }), nccl_invalid_argument, "blocking is 2");
  refused(attempt([](NcclConfig& c) { c.max_ctas = 0; }), nccl_invalid_argument, "maxCTAs is 0");
  refused(attempt([](NcclConfig& c) { c.min_ctas = 8, c.max_ctas = 4; }), nccl_invalid_argument, "minCTAs is 8");
  refused(attempt([](NcclConfig& c) { c.split_share = 5; }), nccl_invalid_argument, "splitShare is 5");
}

TEST_CASE("ranks, ids and places that cannot be are refused before anyone is waited for", "[nccl_shim]") {
  const NcclId id = fresh_id();
  NcclComm* comm = nullptr;
  refused(drop_in().comm_init_rank(&comm, 0, id, 0), nccl_invalid_argument, "0 ranks");
  refused(drop_in().comm_init_rank(&comm, 2, id, 2), nccl_invalid_argument, "rank 2 of 2");
  refused(drop_in().comm_init_rank(&comm, 2, id, -1), nccl_invalid_argument, "rank -1 of 2");
  refused(drop_in().comm_init_rank(nullptr, 2, id, 0), nccl_invalid_argument, "null");
  refused(drop_in().comm_init_all(nullptr, 2, nullptr), nccl_invalid_argument, "null");
  refused(drop_in().comm_init_all(&comm, 0, nullptr), nccl_invalid_argument, "0 devices");
  refused(drop_in().comm_init_all(&comm, -3, nullptr), nccl_invalid_argument, "-3 devices");
  refused(drop_in().comm_init_rank_scalable(&comm, 2, 0, 0, nullptr, nullptr), nccl_invalid_argument, "id");
  refused(drop_in().get_unique_id(nullptr), nccl_invalid_argument, "null");

  NcclId garbage;
  for (int attempt = 0; attempt < 64; ++attempt) {
    for (std::size_t i = 0; i < sizeof garbage.bytes; ++i) garbage.bytes[i] = static_cast<char>(attempt * 31 + static_cast<int>(i) * 7);
    CHECK(drop_in().comm_init_rank(&comm, 2, garbage, 0) == nccl_invalid_argument);
    CHECK(comm == nullptr);
  }
  garbage = NcclId{};
  refused(drop_in().comm_init_rank(&comm, 2, garbage, 0), nccl_invalid_argument, "unique id");
  // One byte wrong, anywhere in what it says.
  for (const std::size_t at : {std::size_t{4}, std::size_t{16}, std::size_t{17}, std::size_t{18}, std::size_t{30}}) {
    garbage = id;
    garbage.bytes[at] = static_cast<char>(garbage.bytes[at] ^ 0x55);
    CHECK(drop_in().comm_init_rank(&comm, 2, garbage, 0) != nccl_success);
  }
}

TEST_CASE("wrong arguments of a call are refused, nothing is written and the communicator stays usable", "[nccl_shim]") {
  DropInRanks made(2);
  NcclComm* comm = made.comms[0];
  float in[4] = {1, 2, 3, 4}, out[4] = {-1, -1, -1, -1};
  refused(drop_in().all_reduce(in, out, 2, 12, 0, comm, nullptr), nccl_invalid_argument, "12 is no data type");
  refused(drop_in().all_reduce(in, out, 2, -1, 0, comm, nullptr), nccl_invalid_argument, "-1 is no data type");
  refused(drop_in().all_reduce(in, out, 2, 7, 5, comm, nullptr), nccl_invalid_argument, "5 is no reduction operation");
  refused(drop_in().all_reduce(in, out, 2, 7, -1, comm, nullptr), nccl_invalid_argument, "-1 is no reduction operation");
  refused(drop_in().all_reduce(nullptr, out, 2, 7, 0, comm, nullptr), nccl_invalid_argument, "sendbuff is null");
  refused(drop_in().all_reduce(in, nullptr, 2, 7, 0, comm, nullptr), nccl_invalid_argument, "recvbuff is null");
  refused(drop_in().all_reduce(in, out, SIZE_MAX, 7, 0, comm, nullptr), nccl_invalid_argument, "larger than any memory");
  refused(drop_in().broadcast(in, out, 2, 7, 2, comm, nullptr), nccl_invalid_argument, "root 2");
  refused(drop_in().reduce(in, out, 2, 7, 0, -1, comm, nullptr), nccl_invalid_argument, "root -1");
  refused(drop_in().send(in, 2, 7, 2, comm, nullptr), nccl_invalid_argument, "peer 2");
  refused(drop_in().recv(out, 2, 7, -1, comm, nullptr), nccl_invalid_argument, "peer -1");
  refused(drop_in().all_to_all(in, in, 2, 7, comm, nullptr), nccl_invalid_argument, "in place");
  refused(drop_in().all_reduce(in, out, 2, 7, 0, nullptr, nullptr), nccl_invalid_argument, "null");
  int op = 0;
  refused(drop_in().red_op_create_pre_mul_sum(&op, in, 99, 1, comm), nccl_invalid_argument, "99 is no data type");
  refused(drop_in().red_op_create_pre_mul_sum(&op, in, 7, 2, comm), nccl_invalid_argument, "residence of 2");
  refused(drop_in().red_op_create_pre_mul_sum(&op, nullptr, 7, 1, comm), nccl_invalid_argument, "scalar is null");
  refused(drop_in().red_op_destroy(0, comm), nccl_invalid_argument, "no operation");
  nccl_ok(drop_in().red_op_create_pre_mul_sum(&op, in, 7, 1, comm));
  refused(drop_in().all_reduce(in, out, 2, 7, op, made.comms[1], nullptr), nccl_invalid_argument, "no reduction operation");
  refused(drop_in().all_reduce(in, out, 2, 8, op, comm, nullptr), nccl_invalid_argument, "expected one type");
  nccl_ok(drop_in().red_op_destroy(op, comm));
  refused(drop_in().red_op_destroy(op, comm), nccl_invalid_argument, "no operation");
  CHECK(out[0] == -1);

  NcclResult state = nccl_internal_error;
  nccl_ok(drop_in().comm_get_async_error(comm, &state));
  CHECK(state == nccl_success);
  nccl_ok(drop_in().group_start());
  float second[4];
  nccl_ok(drop_in().all_reduce(in, out, 4, 7, 0, made.comms[0], nullptr));
  nccl_ok(drop_in().all_reduce(in, second, 4, 7, 0, made.comms[1], nullptr));
  nccl_ok(drop_in().group_end());
  CHECK((out[3] == 8 && second[3] == 8));
}

TEST_CASE("a call that is refused inside a group makes the group fail and nothing of it is done", "[nccl_shim]") {
  DropInRanks made(2);
  float in[2] = {1, 2}, out[2] = {-1, -1};
  nccl_ok(drop_in().group_start());
  nccl_ok(drop_in().all_reduce(in, out, 2, 7, 0, made.comms[0], nullptr));
  CHECK(drop_in().all_reduce(in, out, 2, 99, 0, made.comms[1], nullptr) == nccl_invalid_argument);
  CHECK(drop_in().group_end() == nccl_invalid_argument);
  CHECK(out[0] == -1);
  // The next group knows nothing of it.
  float second[2];
  nccl_ok(drop_in().group_start());
  nccl_ok(drop_in().all_reduce(in, out, 2, 7, 0, made.comms[0], nullptr));
  nccl_ok(drop_in().all_reduce(in, second, 2, 7, 0, made.comms[1], nullptr));
  nccl_ok(drop_in().group_end());
  CHECK((out[0] == 2 && second[0] == 2));
}

TEST_CASE("a group's end without its start, and a simulation that was not initialised, are refused", "[nccl_shim]") {
  refused(drop_in().group_end(), nccl_invalid_usage, "no group to end");
  refused(drop_in().group_simulate_end(nullptr), nccl_invalid_usage, "no group to end");
  NcclSimInfo info{sizeof(NcclSimInfo), 1, nccl_version, 0};
  refused(drop_in().group_simulate_end(&info), nccl_invalid_argument, "NCCL_SIM_INFO_INITIALIZER");
  info = {1, nccl_sim_info_magic, nccl_version, 0};
  refused(drop_in().group_simulate_end(&info), nccl_invalid_argument, "NCCL_SIM_INFO_INITIALIZER");
  nccl_ok(drop_in().group_start());
  nccl_ok(drop_in().group_end());
}

TEST_CASE("a communicator that was destroyed or aborted is one no more, and null is none", "[nccl_shim]") {
  const bool by_abort = GENERATE(false, true);
  NcclComm* comms[2];
  nccl_ok(drop_in().comm_init_all(comms, 2, nullptr));
  float value = 1;
  for (NcclComm* comm : comms) nccl_ok(by_abort ? drop_in().comm_abort(comm) : drop_in().comm_destroy(comm));
  for (NcclComm* comm : comms) {
    int number = 0;
    NcclResult state = nccl_success;
    void* handle = nullptr;
    refused(drop_in().all_reduce(&value, &value, 1, 7, 0, comm, nullptr), nccl_invalid_argument, "destroyed");
    refused(drop_in().comm_destroy(comm), nccl_invalid_argument, "destroyed");
    refused(drop_in().comm_abort(comm), nccl_invalid_argument, "destroyed");
    refused(drop_in().comm_count(comm, &number), nccl_invalid_argument, "destroyed");
    refused(drop_in().comm_get_async_error(comm, &state), nccl_invalid_argument, "destroyed");
    refused(drop_in().comm_register(comm, &value, 4, &handle), nccl_invalid_argument, "destroyed");
    NcclComm* child = nullptr;
    refused(drop_in().comm_split(comm, 0, 0, &child, nullptr), nccl_invalid_argument, "destroyed");
  }
  nccl_ok(drop_in().comm_destroy(nullptr));
  nccl_ok(drop_in().comm_abort(nullptr));
  nccl_ok(drop_in().comm_finalize(nullptr));
}

TEST_CASE("memory and registrations are given and taken back once", "[nccl_shim]") {
  void* memory = nullptr;
  nccl_ok(drop_in().mem_alloc(&memory, 100));
  REQUIRE(memory != nullptr);
  CHECK(reinterpret_cast<std::uintptr_t>(memory) % 256 == 0);
  refused(drop_in().mem_free(static_cast<char*>(memory) + 1), nccl_invalid_argument, "no memory of ncclMemAlloc");
  DropInRanks made(2);
  void *handle = nullptr, *second = nullptr;
  NcclWindow* window = nullptr;
  nccl_ok(drop_in().comm_register(made.comms[0], memory, 100, &handle));
  nccl_ok(drop_in().comm_register(made.comms[0], memory, 100, &second));
  nccl_ok(drop_in().comm_window_register(made.comms[0], memory, 100, &window, 1));
  CHECK((handle != nullptr && second != nullptr && window != nullptr && handle != second));
  refused(drop_in().comm_register(made.comms[0], nullptr, 100, &second), nccl_invalid_argument, "no buffer");
  refused(drop_in().comm_window_register(made.comms[0], memory, 100, &window, 8), nccl_invalid_argument, "window flags");
  nccl_ok(drop_in().comm_window_register(made.comms[0], memory, 100, &window, 1));
  nccl_ok(drop_in().comm_window_deregister(made.comms[0], window));
  refused(drop_in().comm_window_deregister(made.comms[0], window), nccl_invalid_argument, "no handle");
  nccl_ok(drop_in().comm_deregister(made.comms[0], handle));
  refused(drop_in().comm_deregister(made.comms[0], handle), nccl_invalid_argument, "no handle");
  nccl_ok(drop_in().mem_free(memory));
  refused(drop_in().mem_free(memory), nccl_invalid_argument, "no memory of ncclMemAlloc");
  nccl_ok(drop_in().mem_free(nullptr));
  nccl_ok(drop_in().mem_alloc(&memory, 0));
  CHECK(memory == nullptr);
}

TEST_CASE("the device interface is refused with words, its teams are right", "[nccl_shim]") {
  DropInRanks made(3);
  char place[4096] = {};
  refused(drop_in().dev_comm_create(made.comms[0], place, place), nccl_invalid_usage, "device interface");
  refused(drop_in().dev_comm_destroy(made.comms[0], place), nccl_invalid_usage, "device interface");
  refused(drop_in().lla2a_create_requirement(1, 1, place, place), nccl_invalid_usage, "device interface");
  const NcclTeam team = drop_in().team_lsa(made.comms[2]);
  CHECK((team.ranks == 3 && team.rank == 2 && team.stride == 1));
  CHECK(drop_in().team_rank_to_world(made.comms[2], team, 1) == 1);
  CHECK(drop_in().team_rail(made.comms[2]).ranks == 1);
}
