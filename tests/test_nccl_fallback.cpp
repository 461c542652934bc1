#include <cstring>
#include <thread>

#include "base/require.hpp"
#include "nccl_drop_in.hpp"
#include "nccl_shim/nccl_id.hpp"
#include "ranks.hpp"
#include "test.hpp"
#include "variable.hpp"

// The cases with a dot are run by ctests of their own, which name the real library before the process begins.
using namespace collectives;

namespace {

NcclId id_of_today() {
  NcclId id;
  nccl_ok(drop_in().get_unique_id(&id));
  return id;
}

/// The same id, as if another host had made it.
NcclId from_elsewhere(const NcclId& id) {
  DropInId said = read_nccl_id(id);
  said.host ^= 0x10;
  return write_nccl_id(said);
}

/// What an all-reduce of 1 gives: the stand-in's is 1001.
float reduced(NcclComm* comm) {
  const float in = 1;
  float out = -1;
  nccl_ok(drop_in().all_reduce(&in, &out, 1, 7, 0, comm, nullptr));
  return out;
}

}  // namespace

TEST_CASE("an id carries the host and NCCL's id beside its own, as far as there is room", "[nccl_shim]") {
  DropInId id;
  id.host = 0x1234567890abcdefu;
  for (std::size_t i = 0; i < 50; ++i) id.meeting.bytes[i] = static_cast<char>(i + 1);
  id.meeting.bytes[127] = 9;
  id.real.emplace();
  std::memset(&*id.real, 0, sizeof *id.real);
  std::strcpy(id.real->bytes, "forty bytes of an address and of a magic");
  const DropInId both = read_nccl_id(write_nccl_id(id));
  CHECK(both.host == id.host);
  CHECK(both.meeting.bytes == id.meeting.bytes);
  REQUIRE(both.real.has_value());
  CHECK(std::memcmp(&*both.real, &*id.real, sizeof *id.real) == 0);

  for (std::size_t i = 0; i < 90; ++i) id.meeting.bytes[i] = 'x';
  const DropInId narrow = read_nccl_id(write_nccl_id(id));
  CHECK(narrow.meeting.bytes == id.meeting.bytes);
  CHECK(narrow.host == id.host);
  CHECK_FALSE(narrow.real.has_value());

  id.meeting.bytes.fill('x');
  const DropInId full = read_nccl_id(write_nccl_id(id));
  CHECK(full.meeting.bytes == id.meeting.bytes);
  CHECK(full.host == 0);
}

TEST_CASE("what only NCCL can serve is refused with words where there is none", "[nccl_shim]") {
  const Variable none("COLLECTIVES_NCCL_FALLBACK", "/no/such/libnccl.so.2");
  NcclComm* comm = nullptr;
  const NcclId id = id_of_today();
  CHECK(drop_in().comm_init_rank(&comm, 17, id, 3) == nccl_invalid_usage);
  CHECK(comm == nullptr);
  CHECK_THAT(nccl_words(), ContainsSubstring("17 ranks are more than 16") && ContainsSubstring("no NCCL to turn to") && ContainsSubstring("/no/such/libnccl.so.2"));
  CHECK(drop_in().comm_init_rank(&comm, 2, from_elsewhere(id), 1) == nccl_invalid_usage);
  CHECK_THAT(nccl_words(), ContainsSubstring("made on another host") && ContainsSubstring("no NCCL to turn to"));
  std::vector<NcclComm*> comms(17);
  CHECK(drop_in().comm_init_all(comms.data(), 17, nullptr) == nccl_invalid_usage);
  const Variable itself("COLLECTIVES_NCCL_FALLBACK", TEST_NCCL_LIBRARY);
  CHECK(drop_in().comm_init_rank(&comm, 17, id, 3) == nccl_invalid_usage);
  CHECK_THAT(nccl_words(), ContainsSubstring("this library itself"));
}

TEST_CASE("more ranks than libcollectives serves are NCCL's, with all that is made of them", "[.nccl_fallback]") {
  const NcclId id = id_of_today();
  const auto outcomes = run_ranks(RanksAre::threads, 17, [&](int rank) {
    NcclComm *comm = nullptr, *child = nullptr;
    nccl_ok(drop_in().comm_init_rank(&comm, 17, id, rank));
    int count = 0, own = -1;
    nccl_ok(drop_in().comm_count(comm, &count));
    nccl_ok(drop_in().comm_user_rank(comm, &own));
    require(count == 17 && own == rank, "the stand-in's numbers");
    require(reduced(comm) == 1001, "the stand-in's sum");
    nccl_ok(drop_in().comm_split(comm, rank == 3 ? -1 : 0, rank, &child, nullptr));
    require((child == nullptr) == (rank == 3), "who has no color has no communicator");
    if (child != nullptr) require(reduced(child) == 1001, "the stand-in's sum of a part");
    float in = 1, out = 0;
    nccl_ok(drop_in().group_start());
    nccl_ok(drop_in().all_reduce(&in, &out, 1, 7, 0, comm, nullptr));
    nccl_ok(drop_in().group_end());
    require(out == 1002, "a group is a group there too");
    require(drop_in().all_gather(&in, &out, 1, 7, comm, nullptr) == nccl_invalid_usage, "what that NCCL does not have is refused");
    nccl_ok(drop_in().comm_destroy(comm));
    if (child != nullptr) nccl_ok(drop_in().comm_abort(child));
  });
  for (const auto& outcome : outcomes) CHECK(outcome == "ok");
  DropInRanks made(17);
  CHECK(reduced(made.comms[16]) == 1001);
  float value = 1;
  CHECK(drop_in().all_reduce(&value, &value, 1, 8, 0, made.comms[16], nullptr) == nccl_invalid_argument);
  CHECK_THAT(nccl_words(), ContainsSubstring("nothing yet"));  // what the stand-in has to say in this thread
}

TEST_CASE("ranks of one host stay with libcollectives where NCCL is at hand", "[.nccl_fallback]") {
  const NcclId id = id_of_today();
  CHECK(read_nccl_id(id).real.has_value());
  const auto outcomes = run_ranks(RanksAre::threads, 2, [&](int rank) {
    NcclComm* comm = nullptr;
    nccl_ok(drop_in().comm_init_rank(&comm, 2, id, rank));
    require(reduced(comm) == 2, "our sum");
    nccl_ok(drop_in().comm_destroy(comm));
  });
  for (const auto& outcome : outcomes) CHECK(outcome == "ok");
}

TEST_CASE("ranks of several hosts are NCCL's: those elsewhere at once, the others once they have waited", "[.nccl_fallback]") {
  const Variable patience("COLLECTIVES_TIMEOUT_MS", "300");
  const NcclId id = id_of_today(), elsewhere = from_elsewhere(id);
  const auto outcomes = run_ranks(RanksAre::threads, 3, [&](int rank) {
    NcclComm* comm = nullptr;
    nccl_ok(drop_in().comm_init_rank(&comm, 3, rank == 2 ? elsewhere : id, rank));
    require(reduced(comm) == 1001, "the stand-in's sum");
    nccl_ok(drop_in().comm_destroy(comm));
  });
  for (const auto& outcome : outcomes) CHECK(outcome == "ok");
}

TEST_CASE("a launcher's word that there are more ranks than this host has is enough", "[.nccl_fallback]") {
  const Variable all("WORLD_SIZE", "4"), here("LOCAL_WORLD_SIZE", "2");
  const NcclId id = id_of_today();
  NcclComm* comm = nullptr;
  nccl_ok(drop_in().comm_init_rank(&comm, 4, id, 1));
  CHECK(reduced(comm) == 1001);
  nccl_ok(drop_in().comm_destroy(comm));
}

TEST_CASE("with COLLECTIVES_DISABLE=1 every call is NCCL's", "[.nccl_disabled]") {
  int version = 0;
  nccl_ok(drop_in().get_version(&version));
  CHECK(version == 29999);
  const NcclId id = id_of_today();
  CHECK(std::string(id.bytes) == "the stand-in's id");
  NcclComm* comm = nullptr;
  nccl_ok(drop_in().comm_init_rank(&comm, 2, id, 1));
  CHECK(reduced(comm) == 1001);
  nccl_ok(drop_in().comm_destroy(comm));
  CHECK(drop_in().group_end() == nccl_success);
  CHECK(drop_in().comm_init_rank(&comm, 2, NcclId{}, 0) == nccl_invalid_argument);
  CHECK(std::string(drop_in().get_error_string(nccl_success)) == "the stand-in's code");
  CHECK(nccl_words() == "an id of ");
}

TEST_CASE("with COLLECTIVES_DISABLE=1 and no NCCL every call says so", "[.nccl_alone]") {
  int version = 0;
  CHECK(drop_in().get_version(&version) == nccl_invalid_usage);
  CHECK_THAT(nccl_words(), ContainsSubstring("no NCCL to turn to"));
  NcclComm* comm = nullptr;
  CHECK(drop_in().comm_init_all(&comm, 1, nullptr) == nccl_invalid_usage);
  CHECK(drop_in().group_start() == nccl_invalid_usage);
  CHECK(std::string(drop_in().get_error_string(nccl_success)) == "no error");
}
