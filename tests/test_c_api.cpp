#include <collectives/collectives.h>

#include <array>
#include <cstring>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "c_api/guard.hpp"
#include "c_api/translate.hpp"
#include "test.hpp"
#include "variable.hpp"

using namespace collectives;

namespace {

coll_options host_options() {
  coll_options options;
  REQUIRE(coll_options_init(&options, sizeof options) == coll_success);
  options.backend = coll_backend_host;
  return options;
}

/// Host ranks of this process, destroyed at the end.
struct Ranks {
  explicit Ranks(int count) : comms(static_cast<std::size_t>(count)) {
    const coll_options options = host_options();
    const auto error = coll_comm_create_local(nullptr, count, &options, comms.data());
    INFO(coll_last_error());
    REQUIRE(error == coll_success);
  }
  ~Ranks() {
    for (auto* comm : comms) coll_comm_destroy(comm);
  }
  std::vector<coll_comm*> comms;
};

coll_plan_request asked(size_t count, coll_data_type type, coll_collective collective = coll_kind_all_reduce) {
  return {.size = sizeof(coll_plan_request), .count = count, .collective = collective, .type = type, .op = coll_sum, .root = 0};
}

}  // namespace

TEST_CASE("what a function of the C interface throws comes out as its code and message", "[c_api]") {
  const auto [error, thrower] = GENERATE(table<coll_error, void (*)()>({
      {coll_peer_lost, [] { throw Error(ErrorCode::peer_lost, "marker"); }},
      {coll_out_of_memory, [] { throw std::bad_alloc(); }},
      {coll_internal_error, [] { throw std::logic_error("marker"); }},
      {coll_internal_error, [] { throw 7; }},
  }));
  CHECK(guard(thrower) == error);
  CHECK(std::strlen(coll_last_error()) > 0);
  CHECK(guard([] {}) == coll_success);
}

TEST_CASE("the last error belongs to its thread and survives success and length", "[c_api]") {
  guard([] { throw Error(ErrorCode::internal, "of the main thread"); });
  std::thread([] {
    CHECK(std::string(coll_last_error()).empty());
    guard([] { throw Error(ErrorCode::internal, std::string(100'000, 'x')); });
    CHECK(std::string(coll_last_error()).find_first_not_of('x') == std::string::npos);
  }).join();
  guard([] {});
  CHECK(std::string(coll_last_error()) == "of the main thread");
}

TEST_CASE("every error code has a name and others are unknown", "[c_api]") {
  CHECK(std::string(coll_error_name(coll_success)) == "success");
  for (int code = 1; code <= coll_internal_error; ++code) CHECK(std::string(coll_error_name(code)) != "unknown error");
  for (const int code : {-1, coll_internal_error + 1, 1 << 30}) CHECK(std::string(coll_error_name(code)) == "unknown error");
  CHECK(coll_version() == COLL_VERSION);
}

TEST_CASE("options pass through unless the caller left them alone", "[c_api]") {
  coll_options options;
  REQUIRE(coll_options_init(&options, sizeof options) == coll_success);
  const Options untouched = options_of(&options);
  CHECK(untouched.backend == Backend::automatic);
  CHECK_FALSE((untouched.pool_bytes || untouched.algorithm || untouched.wire || untouched.timeout_ms || untouched.mode || untouched.tuned));

  options.algorithm = coll_kary_tree;
  options.arity = 3;
  options.wire = coll_wire_sentinel;
  options.invariant = 1;
  options.max_blocks = 5;
  options.timeout_ms = 17;
  options.first_epoch = 0x7fffffff;
  options.pool_bytes = 1 << 20;
  options.mode = coll_mode_host;
  options.prove_links = 1;
  options.programmatic_launch = 1;
  const coll_rank_pair refused[] = {{2, 0}, {1, 2}};
  options.refused = refused;
  options.refused_count = 2;
  options.tuned = 0;
  const Options set = options_of(&options);
  CHECK(set.algorithm == AlgorithmChoice{Algorithm::kary_tree, 3});
  CHECK(set.wire == Wire::sentinel);
  CHECK(set.invariant);
  CHECK(set.max_blocks == 5);
  CHECK(set.timeout_ms == 17u);
  CHECK(set.first_epoch == 0x7fffffffu);
  CHECK(set.pool_bytes == std::size_t{1 << 20});
  CHECK(set.mode == PeerMode::host);
  CHECK(set.prove_links);
  CHECK(set.programmatic_launch);
  CHECK(set.tuned == false);
  CHECK(set.refused == std::vector<std::pair<int, int>>{{2, 0}, {1, 2}});
  options.refused = nullptr;
  CHECK_THROWS_WITH(options_of(&options), ContainsSubstring("coll_options.refused is null"));
}

TEST_CASE("options of the first version leave what came later at its default", "[c_api]") {
  coll_options options;
  std::memset(&options, 0xff, sizeof options);
  REQUIRE(coll_options_init(&options, 48) == coll_success);
  const Options first = options_of(&options);
  CHECK_FALSE(first.mode);
  CHECK_FALSE(first.prove_links);
  CHECK_FALSE(first.programmatic_launch);
  CHECK(first.refused.empty());
}

TEST_CASE("mode p2p through the C interface is an error that names the missing link", "[c_api][mode]") {
  coll_options options = host_options();
  options.mode = coll_mode_p2p;
  const coll_rank_pair refused{1, 0};
  options.refused = &refused;
  options.refused_count = 1;
  coll_comm* comms[2] = {};
  CHECK(coll_comm_create_local(nullptr, 2, &options, comms) == coll_unsupported);
  CHECK_THAT(coll_last_error(), ContainsSubstring("missing: 0-1 (refused by the options)"));
  CHECK(comms[0] == nullptr);
}

TEST_CASE("an options structure of another version is taken where it can be and refused where not", "[c_api]") {
  struct Newer {
    coll_options known;
    std::uint64_t added;
  } newer;
  std::memset(&newer, 0xff, sizeof newer);
  REQUIRE(coll_options_init(&newer.known, sizeof newer) == coll_success);
  CHECK(newer.added == 0);
  CHECK(newer.known.size == sizeof newer);
  CHECK_NOTHROW(options_of(&newer.known));
  newer.added = 1;
  CHECK_THROWS_WITH(options_of(&newer.known), ContainsSubstring("does not know"));

  coll_options short_one{};
  CHECK(coll_options_init(&short_one, 8) == coll_invalid_argument);
  CHECK(short_one.size == 0);
  CHECK_THROWS_WITH(options_of(&short_one), ContainsSubstring("coll_options.size is 0"));
  CHECK(coll_options_init(nullptr, sizeof short_one) == coll_invalid_argument);
}

TEST_CASE("a number that names nothing is refused with what is allowed", "[c_api]") {
  const int number = GENERATE(-1, 12, 256, 256 + 3, 1 << 30);
  CAPTURE(number);
  CHECK_THROWS_WITH(data_type_of(number), ContainsSubstring("3 (bfloat16)"));
  CHECK_THROWS_WITH(reduce_op_of(number), ContainsSubstring("4 (avg)"));
  coll_options options = host_options();
  options.backend = number;
  CHECK_THROWS_WITH(options_of(&options), ContainsSubstring("backend"));
  options = host_options();
  options.algorithm = number == -1 ? -2 : number;
  CHECK_THROWS_WITH(options_of(&options), ContainsSubstring("5 (balanced_tree)"));
  options = host_options();
  options.wire = number == -1 ? -2 : number;
  CHECK_THROWS_WITH(options_of(&options), ContainsSubstring("1 (flagged)"));
  options = host_options();
  options.mode = number == -1 ? -2 : number;
  CHECK_THROWS_WITH(options_of(&options), ContainsSubstring("2 (host)"));
}

TEST_CASE("null arguments of the C interface are errors that name them", "[c_api]") {
  int number = 0;
  std::size_t size = 0;
  coll_unique_id id{};
  coll_comm* comm = nullptr;
  coll_pool_info pool{};
  pool.size = sizeof pool;
  CHECK(coll_get_unique_id(nullptr) == coll_invalid_argument);
  CHECK(coll_comm_create(nullptr, 0, 2, nullptr, &comm) == coll_invalid_argument);
  CHECK(coll_comm_create(&id, 0, 2, nullptr, nullptr) == coll_invalid_argument);
  CHECK(coll_comm_create_local(nullptr, 2, nullptr, nullptr) == coll_invalid_argument);
  CHECK(coll_comm_create_local(nullptr, 0, nullptr, &comm) == coll_invalid_argument);
  CHECK(coll_comm_create_local(nullptr, -1, nullptr, &comm) == coll_invalid_argument);
  CHECK(comm == nullptr);
  CHECK(coll_comm_rank(nullptr, &number) == coll_invalid_argument);
  CHECK_THAT(coll_last_error(), ContainsSubstring("the communicator is null"));
  CHECK(coll_all_reduce(&number, &number, 1, coll_int32, coll_sum, nullptr, nullptr) == coll_invalid_argument);
  CHECK(coll_barrier(nullptr, nullptr) == coll_invalid_argument);
  CHECK(coll_synchronize(nullptr, nullptr) == coll_invalid_argument);
  CHECK(coll_check(nullptr) == coll_invalid_argument);
  CHECK(coll_abort(nullptr) == coll_invalid_argument);
  CHECK(coll_pool_statistics(nullptr, &pool) == coll_invalid_argument);
  const coll_plan_request request = asked(1, coll_int32);
  CHECK(coll_plan(nullptr, &request, nullptr) == coll_invalid_argument);
  CHECK(coll_explain(nullptr, &request, nullptr, 0, &size) == coll_invalid_argument);
  CHECK(coll_comm_destroy(nullptr) == coll_success);
}

TEST_CASE("host ranks reduce through the C interface", "[c_api]") {
  const int count = GENERATE(2, 3, 5);
  Ranks ranks(count);
  std::vector<std::vector<std::int32_t>> values;
  for (int rank = 0; rank < count; ++rank) values.push_back({rank + 1, 10 * (rank + 1), -rank});
  for (int rank = 0; rank < count; ++rank) {
    auto& mine = values[static_cast<std::size_t>(rank)];
    REQUIRE(coll_all_reduce(mine.data(), mine.data(), mine.size(), coll_int32, coll_sum, ranks.comms[static_cast<std::size_t>(rank)],
                            nullptr) == coll_success);
  }
  for (auto* comm : ranks.comms) REQUIRE(coll_barrier(comm, nullptr) == coll_success);
  for (auto* comm : ranks.comms) REQUIRE(coll_synchronize(comm, nullptr) == coll_success);
  const int sum = count * (count + 1) / 2;
  for (const auto& mine : values) CHECK(mine == std::vector<std::int32_t>{sum, 10 * sum, count - sum});
}

TEST_CASE("a communicator says who it is, what it would do and what it holds", "[c_api]") {
  Ranks ranks(3);
  int rank = -1, size = -1, device = 0, backend = -1;
  CHECK(coll_comm_rank(ranks.comms[2], &rank) == coll_success);
  CHECK(coll_comm_size(ranks.comms[2], &size) == coll_success);
  CHECK(coll_comm_device(ranks.comms[2], &device) == coll_success);
  CHECK(coll_comm_backend(ranks.comms[2], &backend) == coll_success);
  CHECK(rank == 2);
  CHECK(size == 3);
  CHECK(device == -1);
  CHECK(backend == coll_backend_host);
  CHECK(coll_check(ranks.comms[2]) == coll_success);

  coll_pool_info pool{};
  CHECK(coll_pool_statistics(ranks.comms[0], &pool) == coll_invalid_argument);
  pool.size = sizeof pool;
  CHECK(coll_pool_statistics(ranks.comms[0], &pool) == coll_success);
  CHECK(pool.in_use > 0);
  CHECK(pool.reserved >= pool.committed);

  coll_plan_info plan{};
  plan.size = sizeof plan;
  const coll_plan_request request = asked(1000, coll_float16);
  REQUIRE(coll_plan(ranks.comms[0], &request, &plan) == coll_success);
  CHECK(plan.bytes == 2000);
  CHECK(plan.blocks == 1);
  CHECK(plan.algorithm >= coll_one_shot);
}

TEST_CASE("an explanation is cut at the caller's buffer and says what it needs", "[c_api]") {
  Ranks ranks(2);
  std::size_t needed = 0;
  const coll_plan_request request = asked(1000, coll_float32);
  REQUIRE(coll_explain(ranks.comms[0], &request, nullptr, 0, &needed) == coll_success);
  REQUIRE(needed > 10);
  std::string text(needed, '?');
  REQUIRE(coll_explain(ranks.comms[0], &request, text.data(), text.size(), &needed) == coll_success);
  CHECK(std::strlen(text.c_str()) + 1 == needed);
  char few[5] = {'?', '?', '?', '?', '?'};
  REQUIRE(coll_explain(ranks.comms[0], &request, few, 4, &needed) == coll_success);
  CHECK(std::string(few) == text.substr(0, 3));
  CHECK(few[4] == '?');
  CHECK(coll_explain(ranks.comms[0], &request, nullptr, 9, &needed) == coll_invalid_argument);
}

TEST_CASE("every collective runs through the C interface", "[c_api][collectives]") {
  Ranks ranks(2);
  const auto both = [&](auto&& call) {
    for (int rank = 0; rank < 2; ++rank) REQUIRE(call(rank, ranks.comms[static_cast<std::size_t>(rank)]) == coll_success);
    for (coll_comm* comm : ranks.comms) REQUIRE(coll_synchronize(comm, nullptr) == coll_success);
  };
  const int in[2][4] = {{1, 2, 3, 4}, {10, 20, 30, 40}};
  using Four = std::array<int, 4>;
  Four out[2] = {};
  both([&](int r, coll_comm* c) { return coll_reduce_scatter(in[r], out[r].data(), 2, coll_int32, coll_sum, c, nullptr); });
  CHECK((out[0] == Four{11, 22, 0, 0} && out[1] == Four{33, 44, 0, 0}));
  const size_t counts[] = {1, 3};
  both([&](int r, coll_comm* c) { return coll_reduce_scatter_v(in[r], out[r].data(), counts, coll_int32, coll_sum, c, nullptr); });
  CHECK((out[0] == Four{11, 22, 0, 0} && out[1] == Four{22, 33, 44, 0}));
  both([&](int r, coll_comm* c) { return coll_all_gather(in[r], out[r].data(), 2, coll_int32, c, nullptr); });
  CHECK((out[0] == Four{1, 2, 10, 20} && out[1] == out[0]));
  both([&](int r, coll_comm* c) { return coll_all_gather_v(in[r], out[r].data(), counts, coll_int32, c, nullptr); });
  CHECK((out[0] == Four{1, 10, 20, 30} && out[1] == out[0]));
  both([&](int r, coll_comm* c) { return coll_broadcast(r == 1 ? in[1] : nullptr, out[r].data(), 4, coll_int32, 1, c, nullptr); });
  CHECK((out[0] == Four{10, 20, 30, 40} && out[1] == out[0]));
  both([&](int r, coll_comm* c) { return coll_reduce(in[r], r == 0 ? out[0].data() : nullptr, 4, coll_int32, coll_max, 0, c, nullptr); });
  CHECK(out[0] == Four{10, 20, 30, 40});
  both([&](int r, coll_comm* c) { return coll_all_to_all(in[r], out[r].data(), 2, coll_int32, c, nullptr); });
  CHECK((out[0] == Four{1, 2, 10, 20} && out[1] == Four{3, 4, 30, 40}));
  both([&](int r, coll_comm* c) { return coll_gather(in[r], r == 1 ? out[1].data() : nullptr, 2, coll_int32, 1, c, nullptr); });
  CHECK(out[1] == Four{1, 2, 10, 20});
  both([&](int r, coll_comm* c) { return coll_scatter(r == 0 ? in[0] : nullptr, out[r].data(), 2, coll_int32, 0, c, nullptr); });
  CHECK((out[0][1] == 2 && out[1][0] == 3));
  both([&](int r, coll_comm* c) {
    const coll_send send{in[r], 4, coll_int32, 1 - r};
    const coll_receive receive{out[r].data(), 16, coll_uint8, 1 - r};
    return coll_exchange(&send, 1, &receive, 1, c, nullptr);
  });
  CHECK((out[0] == Four{10, 20, 30, 40} && out[1] == Four{1, 2, 3, 4}));

  CHECK(coll_exchange(nullptr, 1, nullptr, 0, ranks.comms[0], nullptr) == coll_invalid_argument);
  CHECK(coll_all_gather_v(in[0], out[0].data(), nullptr, coll_int32, ranks.comms[0], nullptr) == coll_invalid_argument);
  CHECK(coll_scatter(in[0], out[0].data(), SIZE_MAX / 2, coll_int32, 0, ranks.comms[0], nullptr) == coll_invalid_argument);
  CHECK(coll_broadcast(in[0], out[0].data(), 1, coll_int32, 2, ranks.comms[0], nullptr) == coll_invalid_argument);
  coll_plan_info plan{};
  plan.size = sizeof plan;
  coll_plan_request request = asked(1000, coll_float32, coll_kind_all_gather);
  REQUIRE(coll_plan(ranks.comms[0], &request, &plan) == coll_success);
  CHECK(plan.bytes == 8000);
  request.collective = 9;
  CHECK(coll_plan(ranks.comms[0], &request, &plan) == coll_invalid_argument);
  request.size = 8;
  CHECK(coll_plan(ranks.comms[0], &request, &plan) == coll_invalid_argument);
}

TEST_CASE("sums of scaled operands run through the C interface", "[c_api][collectives]") {
  Ranks ranks(2);
  const auto both = [&](auto&& call) {
    for (int rank = 0; rank < 2; ++rank) REQUIRE(call(rank, ranks.comms[static_cast<std::size_t>(rank)]) == coll_success);
    for (coll_comm* comm : ranks.comms) REQUIRE(coll_finish(comm) == coll_success);
  };
  const float in[2][4] = {{1, 2, 3, 4}, {10, 20, 30, 40}}, factors[2] = {2, 0.5f};
  using Four = std::array<float, 4>;
  Four out[2] = {};
  both([&](int r, coll_comm* c) { return coll_all_reduce_scaled(in[r], out[r].data(), 4, coll_float32, &factors[r], r, c, nullptr); });
  CHECK((out[0] == Four{7, 14, 21, 28} && out[1] == out[0]));
  out[0] = out[1] = {};
  both([&](int r, coll_comm* c) { return coll_reduce_scatter_scaled(in[r], out[r].data(), 2, coll_float32, &factors[r], 0, c, nullptr); });
  CHECK((out[0] == Four{7, 14, 0, 0} && out[1] == Four{21, 28, 0, 0}));
  out[0] = out[1] = {};
  both([&](int r, coll_comm* c) { return coll_reduce_scaled(in[r], r == 1 ? out[1].data() : nullptr, 4, coll_float32, &factors[r], 0, 1, c, nullptr); });
  CHECK((out[0] == Four{} && out[1] == Four{7, 14, 21, 28}));
  CHECK(coll_all_reduce_scaled(in[0], out[0].data(), 4, coll_float32, nullptr, 0, ranks.comms[0], nullptr) == coll_invalid_argument);
  CHECK(coll_reduce_scatter_scaled(in[0], out[0].data(), SIZE_MAX / 2, coll_float32, factors, 0, ranks.comms[0], nullptr) == coll_invalid_argument);
  CHECK(coll_reduce_scaled(in[0], out[0].data(), 4, coll_float32, factors, 0, 2, ranks.comms[0], nullptr) == coll_invalid_argument);
  CHECK(coll_finish(nullptr) == coll_invalid_argument);
}

TEST_CASE("communicators are split, grouped and renewed through the C interface", "[c_api]") {
  Ranks ranks(3);
  coll_options options = host_options();
  options.pool_bytes = 8 << 20;
  coll_comm* parts[3] = {ranks.comms[0], ranks.comms[1], ranks.comms[2]};  // none of which is written to where there is no part
  coll_comm* groups[3] = {};
  coll_error errors[3] = {};
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 3; ++rank)
    threads.emplace_back([&, rank] {
      const auto note = [&](coll_error error) {
        if (errors[rank] == coll_success) errors[rank] = error;
      };
      coll_comm* mine = ranks.comms[static_cast<std::size_t>(rank)];
      note(coll_comm_split(mine, rank == 1 ? -1 : 0, -rank, &options, &parts[rank]));
      const int members[] = {2, 1};
      if (rank > 0) note(coll_comm_subgroup(mine, members, 2, &options, &groups[rank]));
      note(coll_comm_renew(mine, &options));
    });
  for (auto& thread : threads) thread.join();
  for (const coll_error error : errors) CHECK(error == coll_success);
  CHECK(parts[1] == nullptr);
  const auto place = [](coll_comm* comm) {
    int rank = -1, size = -1;
    CHECK(coll_comm_rank(comm, &rank) == coll_success);
    CHECK(coll_comm_size(comm, &size) == coll_success);
    return std::array{rank, size};
  };
  CHECK(place(parts[0]) == std::array{1, 2});
  CHECK(place(parts[2]) == std::array{0, 2});
  CHECK(place(groups[1]) == std::array{1, 2});
  CHECK(place(groups[2]) == std::array{0, 2});
  const auto sum_of = [](const std::vector<coll_comm*>& comms) {
    std::vector<int> values;
    for (std::size_t i = 0; i < comms.size(); ++i) values.push_back(1 << i);
    for (std::size_t i = 0; i < comms.size(); ++i) CHECK(coll_all_reduce(&values[i], &values[i], 1, coll_int32, coll_sum, comms[i], nullptr) == coll_success);
    for (coll_comm* comm : comms) CHECK(coll_synchronize(comm, nullptr) == coll_success);
    return values;
  };
  CHECK(sum_of({parts[0], parts[2]}) == std::vector<int>{3, 3});
  CHECK(sum_of({groups[1], groups[2]}) == std::vector<int>{3, 3});
  CHECK(sum_of(ranks.comms) == std::vector<int>{7, 7, 7});

  coll_comm* untouched = ranks.comms[0];
  const int stranger[] = {1, 2};
  CHECK(coll_comm_subgroup(ranks.comms[0], stranger, 2, nullptr, &untouched) == coll_invalid_argument);
  CHECK(coll_comm_subgroup(ranks.comms[0], nullptr, 2, nullptr, &untouched) == coll_invalid_argument);
  CHECK(coll_comm_subgroup(ranks.comms[0], stranger, -1, nullptr, &untouched) == coll_invalid_argument);
  CHECK(coll_comm_subgroup(ranks.comms[0], stranger, 2, nullptr, nullptr) == coll_invalid_argument);
  CHECK(coll_comm_split(ranks.comms[0], 0, 0, nullptr, nullptr) == coll_invalid_argument);
  CHECK(coll_comm_split(nullptr, 0, 0, nullptr, &untouched) == coll_invalid_argument);
  CHECK(coll_comm_renew(nullptr, nullptr) == coll_invalid_argument);
  CHECK(untouched == ranks.comms[0]);
  for (coll_comm* comm : {parts[0], parts[2], groups[1], groups[2]}) CHECK(coll_comm_destroy(comm) == coll_success);
}

TEST_CASE("ranks are tuned through the C interface", "[c_api][tune]") {
  const Variable nowhere("XDG_CACHE_HOME", "/nowhere");
  Ranks ranks(2);
  coll_error errors[2] = {};
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 2; ++rank) threads.emplace_back([&, rank] { errors[rank] = coll_comm_tune(ranks.comms[static_cast<std::size_t>(rank)], 20); });
  for (std::thread& thread : threads) thread.join();
  for (const coll_error error : errors) CHECK(error == coll_success);
  std::uint64_t since = 0;
  CHECK((coll_comm_replanned_at(ranks.comms[0], &since) == coll_success && since > 0));
  CHECK(coll_comm_tune(nullptr, 0) == coll_invalid_argument);
}

TEST_CASE("a link is taken out through the C interface", "[c_api]") {
  Ranks ranks(3);
  std::vector<int> values = {1, 2, 4};
  std::uint64_t since = 1;
  for (int call = 0; call < 2; ++call) {
    for (std::size_t r = 0; r < 3; ++r) CHECK(coll_all_reduce(&values[r], &values[r], 1, coll_int32, coll_max, ranks.comms[r], nullptr) == coll_success);
    for (coll_comm* comm : ranks.comms) CHECK(coll_synchronize(comm, nullptr) == coll_success);
    for (coll_comm* comm : ranks.comms) CHECK((coll_comm_replanned_at(comm, &since) == coll_success && since == (call == 0 ? 0u : 2u)));
    if (call == 0) CHECK(coll_comm_demote(ranks.comms[1], 2, 0) == coll_success);
  }
  CHECK(values == std::vector<int>(3, 4));
  CHECK(coll_comm_demote_refused(ranks.comms[0]) == coll_success);
  CHECK(coll_comm_demote(ranks.comms[0], 0, 3) == coll_invalid_argument);
  CHECK(std::string(coll_last_error()).find("rank 3 has no link to take out") != std::string::npos);
  CHECK(coll_comm_demote(nullptr, 0, 1) == coll_invalid_argument);
  CHECK(coll_comm_demote_refused(nullptr) == coll_invalid_argument);
  CHECK(coll_comm_replanned_at(ranks.comms[0], nullptr) == coll_invalid_argument);
}

TEST_CASE("a refused call leaves the communicator usable and writes nothing", "[c_api]") {
  Ranks ranks(2);
  std::int32_t in[2] = {3, 4}, out[2] = {-1, -1};
  CHECK(coll_all_reduce(in, out, 2, 99, coll_sum, ranks.comms[0], nullptr) == coll_invalid_argument);
  CHECK(coll_all_reduce(in, out, 2, coll_int32, -3, ranks.comms[0], nullptr) == coll_invalid_argument);
  CHECK(coll_all_reduce(nullptr, out, 2, coll_int32, coll_sum, ranks.comms[0], nullptr) == coll_invalid_argument);
  CHECK(out[0] == -1);
  CHECK(coll_check(ranks.comms[0]) == coll_success);
  for (int rank = 0; rank < 2; ++rank)
    REQUIRE(coll_all_reduce(&in[rank], &out[rank], 1, coll_int32, coll_prod, ranks.comms[static_cast<std::size_t>(rank)], nullptr) ==
            coll_success);
  for (auto* comm : ranks.comms) REQUIRE(coll_synchronize(comm, nullptr) == coll_success);
  CHECK(out[0] == 12);
  CHECK(out[1] == 12);
}

TEST_CASE("an aborted communicator says so through the C interface and is destroyed without its peers", "[c_api]") {
  Ranks ranks(2);
  REQUIRE(coll_abort(ranks.comms[0]) == coll_success);
  std::int32_t value = 1;
  const auto error = coll_all_reduce(&value, &value, 1, coll_int32, coll_sum, ranks.comms[0], nullptr);
  CHECK(error == coll_aborted);
  CHECK(coll_check(ranks.comms[0]) == coll_aborted);

  // The peer hears of it in its next call.
  REQUIRE(coll_all_reduce(&value, &value, 1, coll_int32, coll_sum, ranks.comms[1], nullptr) == coll_success);
  CHECK(coll_synchronize(ranks.comms[1], nullptr) == coll_aborted);
  CHECK(coll_check(ranks.comms[1]) == coll_aborted);
  CHECK(value == 1);
}
