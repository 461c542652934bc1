// Links that one rank takes out of a communicator that lives: everybody goes without them from one call on, and no result shows it.
#include <unistd.h>

#include <random>
#include <thread>

#include "comm/demotion.hpp"
#include "comm/impl.hpp"
#include "communicators.hpp"
#include "test.hpp"
#include "trial.hpp"
#include "variable.hpp"

#if COLLECTIVES_HAS_CUDA
#include <cuda_runtime_api.h>

#include "base/cuda.hpp"
#endif

using namespace collectives;

namespace {

constexpr PlanRequest one_megabyte{.count = 1 << 18};

/// What a communicator says that was made without these links.
std::string explained_without(int ranks, const std::vector<std::pair<int, int>>& pairs) {
  Options options = of_host_ranks();
  options.refused = pairs;
  return Communicator::create_local(counted(ranks), options)[0].explain(one_megabyte).explanation;
}

/// All-reduces back to back, many under way at once, each with other data and of another size.
class CallWindow {
 public:
  CallWindow(Communicator& communicator, int ranks) : communicator_(communicator), ranks_(ranks), calls_(32) {}
  ~CallWindow() {
    // What is under way may use the buffers until it has ended, however that is.
    (void)outcome_of([&](int) { communicator_.finish(); }, 0);
  }
  CallWindow(const CallWindow&) = delete;

  void call(std::uint64_t seed) {
    One& one = calls_[under_way_++];
    one.seed = seed;
    one.in.resize(1 + seed * 7919 % 3000);
    one.out.assign(one.in.size(), -1);
    for (std::size_t i = 0; i < one.in.size(); ++i) one.in[i] = element(seed, communicator_.rank(), i);
    communicator_.all_reduce({one.in.data(), one.in.size(), DataType::int32}, {one.out.data(), one.out.size(), DataType::int32}, ReduceOp::sum);
    if (under_way_ == calls_.size()) check();
  }

  void check() {
    communicator_.synchronize();
    for (std::size_t c = 0; c < under_way_; ++c)
      for (std::size_t i = 0; i < calls_[c].in.size(); ++i) {
        int sum = 0;
        for (int rank = 0; rank < ranks_; ++rank) sum += element(calls_[c].seed, rank, i);
        expect_that(calls_[c].out[i] == sum, "call " + std::to_string(calls_[c].seed) + " is wrong at element " + std::to_string(i));
      }
    under_way_ = 0;
  }

 private:
  struct One {
    std::uint64_t seed = 0;
    std::vector<int> in, out;
  };

  static int element(std::uint64_t seed, int rank, std::size_t i) { return static_cast<int>(seed % 100'003 * 31 + static_cast<std::uint64_t>(rank) * 1009 + i) % 1'000'003; }

  Communicator& communicator_;
  int ranks_;
  std::vector<One> calls_;
  std::size_t under_way_ = 0;
};

/// One rank's part: calls in a row at its own pace, with `at(call)` before each. Then what came of it.
void run_calls(Communicator& communicator, std::uint64_t calls, const std::function<void(std::uint64_t)>& at) {
  std::mt19937_64 random(static_cast<std::uint64_t>(communicator.rank()) * 77 + 5);
  CallWindow window(communicator, communicator.size());
  for (std::uint64_t call = 0; call < calls; ++call) {
    at(call);
    if (random() % 64 == 0) ::usleep(static_cast<useconds_t>(random() % 300));
    window.call(call);
  }
  window.check();
}

// Under the sanitizers everything takes many times as long.
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t stretch = 100;  ///< calls between two events
std::vector<Wire> all_wires() { return {Wire::flagged}; }
#else
constexpr std::uint64_t stretch = 300;
std::vector<Wire> all_wires() { return {Wire::flagged, Wire::sentinel}; }
#endif

}  // namespace

TEST_CASE("one rank takes a link out amid a stream of calls, and all change their plans at the same call", "[comm][host][demote]") {
  const auto kind = GENERATE(from_range(all_ways()));
  const std::string before = explained_without(4, {}), after = explained_without(4, {{0, 3}});
  REQUIRE(before != after);
  CHECK(run_everywhere(kind, 4, of_host_ranks(), [&](Communicator& here) {
          run_calls(here, 3 * stretch, [&](std::uint64_t call) {
            if (call < stretch && call % 50 == 0) expect_that(here.explain(one_megabyte).explanation == before, "nobody has asked yet");
            if (here.rank() == 2 && call == stretch) here.demote(3, 0);
          });
          expect_that(here.replanned_at() > stretch && here.replanned_at() <= 3 * stretch, "it changed at " + std::to_string(here.replanned_at()));
          expect_that(agrees(here, here.replanned_at()), "everybody changed at one call");
          expect_that(here.explain(one_megabyte).explanation == after, "the plan is that of a communicator without the link");
        }) == all_well(4));
}

TEST_CASE("requests that come soon after one another, and from several ranks at once, are all met", "[comm][host][demote]") {
  const auto kind = GENERATE(from_range(all_ways()));
  const std::string after = explained_without(4, {{0, 1}, {0, 2}, {1, 3}});
  CHECK(run_everywhere(kind, 4, of_host_ranks(), [&](Communicator& here) {
          run_calls(here, 2 * stretch, [&](std::uint64_t call) {
            if (here.rank() == 0 && call == stretch) here.demote(0, 1);
            if (here.rank() == 0 && call == stretch + 1) here.demote(2, 0);
            if (here.rank() == 3 && call == stretch) here.demote(1, 3);
            if (here.rank() == 1 && call == stretch + 5) here.demote(3, 1);  // as another has asked, or will
          });
          expect_that(agrees(here, here.replanned_at()) && here.replanned_at() > stretch, "everybody changed at one call");
          expect_that(here.explain(one_megabyte).explanation == after, "the plan is that of a communicator without the links");
        }) == all_well(4));
}

TEST_CASE("every link goes, one after the other", "[comm][host][demote]") {
  const auto kind = GENERATE(from_range(all_ways()));
  CHECK(run_everywhere(kind, 5, of_host_ranks(), [&](Communicator& here) {
          std::vector<std::pair<int, int>> pairs;
          for (int a = 0; a < 5; ++a)
            for (int b = 0; b < a; ++b) pairs.emplace_back(a, b);
          run_calls(here, 240, [&](std::uint64_t call) {
            const auto& [a, b] = pairs[call / 24];
            if (call % 24 == 9 && here.rank() == static_cast<int>(call / 24 % 5)) here.demote(a, b);
          });
          expect_that(agrees(here, here.replanned_at()) && here.replanned_at() > 216, "everybody changed at one call");
        }) == all_well(5));
}

TEST_CASE("one thread drives all ranks, however far one of them is ahead", "[comm][host][demote]") {
  const std::string before = explained_without(3, {}), after = explained_without(3, {{0, 1}});
  auto ranks = Communicator::create_local(counted(3), of_host_ranks());
  std::vector<std::vector<int>> values(3, std::vector<int>(400));
  const auto call = [&](std::size_t rank, std::size_t number) {
    int* value = &values[rank][number];
    *value = static_cast<int>(number * (rank + 1));
    ranks[rank].all_reduce({value, 1, DataType::int32}, {value, 1, DataType::int32}, ReduceOp::sum);
  };
  for (std::size_t number = 0; number < 200; ++number) call(1, number);
  for (std::size_t number = 0; number < 50; ++number) call(2, number);
  ranks[0].demote(0, 1);
  CHECK(ranks[1].explain(one_megabyte).explanation == after);  // its next call
  CHECK(ranks[2].explain(one_megabyte).explanation == before);
  for (std::size_t number = 200; number < 400; ++number) call(1, number);
  for (std::size_t number = 0; number < 400; ++number) call(0, number);
  for (std::size_t number = 50; number < 400; ++number) call(2, number);
  for (auto& rank : ranks) rank.synchronize();
  for (auto& rank : ranks) {
    CHECK(rank.replanned_at() == 201);
    CHECK(rank.explain(one_megabyte).explanation == after);
  }
  for (const auto& own : values)
    for (std::size_t number = 0; number < 400; ++number) REQUIRE(own[number] == static_cast<int>(6 * number));
}

TEST_CASE("every collective gives exact results after a change", "[comm][host][demote]") {
  const auto wire = GENERATE(from_range(all_wires()));
  Options options = of_host_ranks();
  options.wire = wire;
  const auto collective = GENERATE(Collective::all_reduce, Collective::reduce_scatter, Collective::all_gather, Collective::broadcast, Collective::reduce, Collective::all_to_all,
                                   Collective::gather, Collective::scatter, Collective::exchange);
  // Some pairs apart from the start, so that the pair that is taken out moves into memory that is there already.
  const bool moves = GENERATE(false, true);
  if (moves) options.refused = {{0, 1}};
  Ranks ranks(counted(4), options, 400'000);
  Trial trial{.type = DataType::float32, .count = 20'011, .collective = collective, .root = 2};
  for (trial.seed = 1; trial.seed <= 12; ++trial.seed) {
    if (trial.seed == 4) ranks.communicators[3].demote(2, 3);
    if (trial.seed == 8) ranks.communicators[0].demote(0, 2);
    CAPTURE(name_of(wire), name_of(collective), moves, trial.seed);
    REQUIRE(mismatches(ranks, trial) == 0);
    for (auto& rank : ranks.communicators) rank.barrier();
    for (auto& rank : ranks.communicators) rank.synchronize();
  }
  for (const auto& rank : ranks.communicators) CHECK(rank.replanned_at() > 0);
}

TEST_CASE("messages between two ranks whose link was taken out still need not be read at once", "[comm][host][demote][exchange]") {
  Options options = of_host_ranks();
  options.refused = {{0, 1}};
  options.timeout_ms = 3000;
  const auto kind = GENERATE(MadeAs::threads_of_one, MadeAs::processes);
  CHECK(run_everywhere(kind, 4, options, [&](Communicator& here) {
          const auto round = [&](int number) {
            std::vector<int> sent(5000, number), received(5000, -1);
            int word = number;
            const auto meet = [&] { here.all_reduce({&word, 1, DataType::int32}, {&word, 1, DataType::int32}, ReduceOp::max); };
            if (here.rank() == 2) here.exchange(std::vector<Send>{{{sent.data(), sent.size(), DataType::int32}, 3}}, {});
            meet();
            if (here.rank() == 3) here.exchange({}, std::vector<Receive>{{{received.data(), received.size(), DataType::int32}, 2}});
            meet();
            here.synchronize();
            expect_that(here.rank() != 3 || received == sent, "message " + std::to_string(number) + " is what was sent");
          };
          for (int number = 0; number < 40; ++number) {
            if (number == 20 && here.rank() == 0) here.demote(2, 3);
            round(number);
          }
          expect_that(agrees(here, here.replanned_at()) && here.replanned_at() > 40, "everybody changed at one call");
        }) == all_well(4));
}

TEST_CASE("a link may go amid the messages of one call, which its other end reads one by one", "[comm][host][demote][exchange]") {
  Options options = of_host_ranks();
  options.refused = {{0, 1}};
  options.timeout_ms = 3000;
  const bool sender_is_ahead = GENERATE(false, true);
  auto ranks = Communicator::create_local(counted(4), options);
  constexpr std::size_t count = 3000;
  std::vector<std::vector<int>> sent, received(12, std::vector<int>(count, -1));
  for (int number = 0; number < 12; ++number) sent.emplace_back(count, number);
  const auto together = [&](std::size_t from, std::size_t to) {  // one end, all in one call
    std::vector<Send> sends;
    std::vector<Receive> receives;
    for (std::size_t n = from; n < to; ++n) sends.push_back({{sent[n].data(), count, DataType::int32}, 3});
    for (std::size_t n = from; n < to; ++n) receives.push_back({{received[n].data(), count, DataType::int32}, 2});
    sender_is_ahead ? ranks[3].exchange({}, receives) : ranks[2].exchange(sends, {});
  };
  const auto one_by_one = [&](std::size_t from, std::size_t to) {  // the other
    for (std::size_t n = from; n < to; ++n)
      if (sender_is_ahead)
        ranks[2].exchange(std::vector<Send>{{{sent[n].data(), count, DataType::int32}, 3}}, {});
      else
        ranks[3].exchange({}, std::vector<Receive>{{{received[n].data(), count, DataType::int32}, 2}});
  };
  together(0, 3);
  one_by_one(0, 5);
  ranks[0].demote(3, 2);  // message 5 is the first that neither has asked for
  together(3, 7);
  together(7, 12);
  one_by_one(5, 12);
  for (auto& rank : ranks) rank.synchronize();
  CHECK(received == sent);
  for (const auto& rank : ranks) CHECK(rank.replanned_at() == 0);  // no call of all has been made
}

TEST_CASE("a request that makes no sense changes nothing", "[comm][host][demote]") {
  auto ranks = Communicator::create_local(counted(3), of_host_ranks());
  const std::string before = ranks[0].explain(one_megabyte).explanation;
  const auto go_on = [&] {
    std::vector<int> values = {1, 2, 4};
    for (std::size_t rank = 0; rank < 3; ++rank) ranks[rank].all_reduce({&values[rank], 1, DataType::int32}, {&values[rank], 1, DataType::int32}, ReduceOp::sum);
    for (auto& rank : ranks) rank.synchronize();
    CHECK(values == std::vector<int>(3, 7));
  };
  for (const auto& [from, to, text] : std::vector<std::tuple<int, int, std::string>>{
           {-1, 1, "rank -1 has no link to take out: expected 0 to 2"}, {0, 3, "rank 3 has no link"}, {1 << 30, 0, "expected 0 to 2"}, {1, 1, "rank 1 has no link to itself"}})
    CHECK_THROWS_WITH(ranks[1].demote(from, to), ContainsSubstring(text));
  {
    const Variable wrong("COLLECTIVES_P2P", "0-zero");
    CHECK_THROWS_WITH(ranks[1].demote_refused(), ContainsSubstring("COLLECTIVES_P2P"));
  }
  go_on();
  for (const auto& rank : ranks) {
    CHECK(rank.replanned_at() == 0);
    CHECK(rank.explain(one_megabyte).explanation == before);
  }
  Options always = of_host_ranks();
  always.mode = PeerMode::p2p;
  auto bound = Communicator::create_local(counted(3), always);
  CHECK_THROWS_WITH(bound[0].demote(0, 1), ContainsSubstring("mode p2p") && ContainsSubstring("0-1 cannot be taken out"));
}

TEST_CASE("COLLECTIVES_P2P is read again where a rank asks for it", "[comm][host][demote]") {
  auto ranks = Communicator::create_local(counted(4), of_host_ranks());
  const auto call = [&] {
    std::vector<int> values = {1, 2, 4, 8};
    for (std::size_t rank = 0; rank < 4; ++rank) ranks[rank].all_reduce({&values[rank], 1, DataType::int32}, {&values[rank], 1, DataType::int32}, ReduceOp::sum);
    for (auto& rank : ranks) rank.synchronize();
    CHECK(values == std::vector<int>(4, 15));
  };
  call();
  ranks[2].demote_refused();
  call();
  CHECK(ranks[0].replanned_at() == 0);
  {
    const Variable refused("COLLECTIVES_P2P", "0-1,2-3");
    ranks[2].demote_refused();
    call();
    for (const auto& rank : ranks) CHECK(rank.replanned_at() == 3);
    CHECK(ranks[0].explain(one_megabyte).explanation == explained_without(4, {{0, 1}, {2, 3}}));
    ranks[1].demote_refused();
    call();
  }
  ranks[1].demote_refused();  // a link does not come back by itself
  call();
  for (const auto& rank : ranks) CHECK(rank.replanned_at() == 3);
  const Variable off("COLLECTIVES_P2P", "off");
  ranks[0].demote_refused();
  call();
  for (const auto& rank : ranks) CHECK(rank.replanned_at() == 6);
}

TEST_CASE("what is made of a communicator is without its links that are out; made anew, it has them", "[comm][host][demote][split]") {
  const std::string whole = explained_without(4, {}), part = explained_without(3, {{0, 2}});
  CHECK(run_everywhere(MadeAs::threads_by_id, 4, of_host_ranks(), [&](Communicator& here) {
          if (here.rank() == 0) here.demote(1, 3);
          here.barrier();
          here.synchronize();
          here.barrier();
          here.synchronize();
          const std::vector<int> members = {3, 0, 1};
          if (here.rank() != 2) expect_that(here.subgroup(members, of_host_ranks()).explain(one_megabyte).explanation == part, "a part is without the link");
          here.renew(of_host_ranks());
          expect_that(here.explain(one_megabyte).explanation == whole && here.replanned_at() == 0, "made anew it has all");
          int value = 1;
          here.all_reduce({&value, 1, DataType::int32}, {&value, 1, DataType::int32}, ReduceOp::sum);
          here.synchronize();
          expect_that(value == 4, "and works");
        }) == all_well(4));
}

TEST_CASE("an abort ends calls before, at and after a change alike, and a request then says so", "[comm][host][demote][failure]") {
  const auto kind = GENERATE(MadeAs::threads_of_one, MadeAs::threads_by_id, MadeAs::processes);
  const auto abort_at = GENERATE(100, 101, 102, 140);
  const auto outcomes = run_everywhere(kind, 3, of_host_ranks(), [&](Communicator& here) {
    try {
      run_calls(here, 100'000, [&](std::uint64_t call) {
        if (here.rank() == 1 && call == 100) here.demote(0, 1);
        if (here.rank() == 2 && call == static_cast<std::uint64_t>(abort_at)) here.abort();
      });
    } catch (const Error& error) {
      expect_that(error.code() == ErrorCode::aborted, error.what());
      try {
        here.demote(1, 2);
      } catch (const Error& again) {
        throw Error(again.code(), "a request on what is dead");
      }
    }
  });
  for (const std::string& outcome : outcomes) CHECK(outcome == "aborted: a request on what is dead");
}

TEST_CASE("a rank that goes without having changed is named by those that have", "[comm][host][demote][failure]") {
  const auto outcomes = run_everywhere(MadeAs::processes, 3, of_host_ranks(), [&](Communicator& here) {
    run_calls(here, 100'000, [&](std::uint64_t call) {
      if (here.rank() == 1 && call == 50) here.demote(0, 1);
      if (here.rank() == 2 && here.replanned_at() == 0 && call == 60) ::_exit(0);
      if (here.rank() == 2 && call == 200) ::_exit(0);
    });
  });
  for (const std::size_t rank : {0, 1}) CHECK_THAT(outcomes[rank], ContainsSubstring("rank 2 has gone"));
}

TEST_CASE("each rank goes by each round at its call, whatever they do at the same time", "[comm][demote]") {
  constexpr int ranks = 4;
  DemotionBoard board{};
  std::vector<std::vector<DemotionBoard::Round>> taken(ranks);
  const auto outcomes = run_ranks(RanksAre::threads, ranks, [&](int rank) {
    Demotions own(board, rank, ranks, 10'000, [] { return std::nullopt; });
    std::mt19937_64 random(static_cast<std::uint64_t>(rank));
    for (std::uint64_t call = 1; call <= 20'000; ++call) {
      if (const auto round = own.begin(call)) {
        expect_that(round->call == call, "a round of call " + std::to_string(round->call) + " is taken at " + std::to_string(call));
        taken[static_cast<std::size_t>(rank)].push_back(*round);
      }
      if (random() % 2000 != 0) continue;
      RankMasks pairs{};
      const auto a = random() % 16, b = (a + 1 + random() % 15) % 16;
      pairs[a] = 1u << b;
      pairs[b] = 1u << a;
      try {
        own.ask(pairs, [](const RankMasks&) {});
      } catch (const Error& error) {
        expect_that(error.code() == ErrorCode::invalid_usage, error.what());  // somebody is far behind
      }
    }
  });
  CHECK(outcomes == all_well(ranks));
  CHECK(taken[0].size() > 0);
  // A rank that came last may have been asked once more when the others had ended.
  for (const auto& own : taken)
    for (std::size_t i = 0; i < std::min(own.size(), taken[0].size()); ++i) {
      CHECK(own[i].call == taken[0][i].call);
      CHECK(own[i].apart == taken[0][i].apart);
    }
}

TEST_CASE("who waits for a round's date ends with what has killed it, or at its deadline", "[comm][demote]") {
  DemotionBoard board{};
  board.announced = 1;
  board.turn = 3;
  Demotions lost(board, 0, 4, 10'000, [] { return Error(ErrorCode::peer_lost, "rank 2 has gone"); });
  CHECK_THROWS_WITH(lost.begin(1), "rank 2 has gone");
  Demotions late(board, 1, 4, 20, [] { return std::nullopt; });
  CHECK_THROWS_WITH(late.begin(1), ContainsSubstring("rank 1 of 4: rank 2, which takes links out, did not say since which call within 20 ms"));
  RankMasks pairs{0b10, 0b01};
  CHECK_THROWS_WITH(late.ask(pairs, [](const RankMasks&) {}), ContainsSubstring("did not end within 20 ms"));
}

TEST_CASE("a round that cannot be prepared changes nothing, and one rank may be so far behind and no farther", "[comm][demote]") {
  DemotionBoard board{};
  Demotions own(board, 0, 2, 1000, [] { return std::nullopt; });
  RankMasks pairs{0b10, 0b01};
  CHECK_THROWS_WITH(own.ask(pairs, [](const RankMasks&) { throw Error(ErrorCode::out_of_memory, "no room"); }), "no room");
  CHECK_FALSE(own.begin(1).has_value());
  for (int round = 0; round < 16; ++round) {
    RankMasks more{};
    more[0] = 1u << (round + 1) % 16;
    more[static_cast<std::size_t>((round + 1) % 16)] |= 1u;
    own.ask(more, [](const RankMasks&) {});
    CHECK(own.foresee(static_cast<std::uint64_t>(round) + 2).has_value());
    CHECK_FALSE(own.foresee(static_cast<std::uint64_t>(round) + 1).has_value());
    REQUIRE(own.begin(static_cast<std::uint64_t>(round) + 2).has_value());
    if (round == 14) break;
  }
  for (const std::uint32_t bit : {2u, 3u}) {
    RankMasks more{};
    more[1] = 1u << bit;
    more[bit] = 2u;
    if (bit == 2)
      own.ask(more, [](const RankMasks&) {});
    else
      CHECK_THROWS_WITH(own.ask(more, [](const RankMasks&) {}), ContainsSubstring("without 16 rounds"));
  }
  Demotions other(board, 1, 2, 1000, [] { return std::nullopt; });
  CHECK_FALSE(other.begin(1).has_value());
  CHECK(other.begin(40)->number == 16);
}

namespace {

constexpr Epoch first_epoch = 0xfffffff0u;
constexpr kernels::Layout small_layout{.sentinel_bytes = 1 << 20, .flagged_bytes = 1 << 20, .mail_bytes = 1 << 19};

std::vector<RankPool> three_pools() {
  std::vector<RankPool> pools;
  for (int rank = 0; rank < 3; ++rank) pools.push_back(make_rank_pool(PoolKind::host, -1, std::size_t{1} << 30, small_layout, first_epoch));
  return pools;
}

PoolBases bases_of(const std::vector<RankPool>& pools) {
  PoolBases bases{};
  for (std::size_t rank = 0; rank < pools.size(); ++rank) bases[rank] = pools[rank].pool->base();
  return bases;
}

const kernels::Control& control_of(const std::byte* pool) { return *reinterpret_cast<const kernels::Control*>(pool); }

}  // namespace

TEST_CASE("ranks move into memory that nobody has used yet, and calls and messages go on as they stood", "[comm][host][demote]") {
  const auto wire = GENERATE(std::optional<Wire>(), std::optional<Wire>(Wire::sentinel));
  const std::vector<RankPool> pools = three_pools(), room = three_pools();
  PlannerOptions options;
  options.wire = wire;
  options.sentinel_slot_bytes = small_layout.sentinel_bytes;
  options.flagged_slot_bytes = small_layout.flagged_bytes;
  PlanShelf plans(std::make_unique<Planner>(host_fabric(3), options), options);
  std::vector<std::unique_ptr<Executor>> executors;
  for (int rank = 0; rank < 3; ++rank) {
    RankContext context{.rank = rank, .ranks = 3, .timeout_ns = 3'000'000'000u, .first_epoch = first_epoch, .layout = small_layout, .mail_lanes = 4};
    context.pools = context.common = bases_of(pools);
    executors.push_back(make_host_executor(std::move(context)));
  }
  const Planner* planner = &plans.first();
  std::vector<std::vector<float>> values(3), sent(3), received(3);
  const auto round = [&](float number, std::size_t count) {
    const PlanRequest request{.count = count};
    const Plan plan = planner->plan(request);
    const auto message = [&](std::size_t rank, Message what) { executors[rank]->enqueue(Mail{.messages = {what}, .own = {}}, nullptr); };
    const auto bytes = count * sizeof(float);
    sent[0].assign(count, number);
    received[1].assign(count, -1);
    for (std::size_t rank = 0; rank < 3; ++rank) {
      values[rank].assign(count, number + static_cast<float>(rank));
      if (rank == 0) message(0, {.peer = 1, .in = sent[0].data(), .bytes = bytes});  // read behind the sum alone
      const Call call{.in = values[rank].data(), .out = values[rank].data(), .count = count};
      executors[rank]->enqueue(call, plan, planner->program(request, plan, static_cast<int>(rank)), nullptr);
      if (rank == 1) message(1, {.peer = 0, .out = received[1].data(), .bytes = bytes});
    }
    for (auto& executor : executors) {
      executor->synchronize(nullptr);
      const auto fault = executor->fault(false);
      INFO((fault ? fault->what() : "alive"));
      REQUIRE_FALSE(fault.has_value());
    }
    for (const auto& own : values) REQUIRE(own == std::vector<float>(count, 3 * number + 3));
    REQUIRE(received[1] == sent[0]);
  };
  for (int call = 0; call < 40; ++call) {
    if (call == 20) {
      CHECK(control_of(room[0].pool->base()).headers[0][1] == kernels::header_before(first_epoch));
      const RankMasks apart{0b010, 0b001};
      planner = &plans.without(apart);
      for (std::size_t rank = 0; rank < 3; ++rank) executors[rank]->reroute(apart[rank], bases_of(room));
      executors[0]->reroute_mail(1, true, bases_of(room), nullptr);
      executors[1]->reroute_mail(0, false, bases_of(room), nullptr);
    }
    round(static_cast<float>(call), 1 + static_cast<std::size_t>(call) * 401 % 5000);
  }
  CHECK(control_of(room[0].pool->base()).headers[0][1] != kernels::header_before(first_epoch));
  // Whoever is in a call of before hears of an abort as well.
  executors[2]->abort(true);
  for (const std::size_t rank : {0, 1}) {
    CHECK(observe_relaxed(&control_of(room[rank].pool->base()).poison) != 0);
    CHECK(observe_relaxed(&control_of(pools[rank].pool->base()).poison) != 0);
  }
}

TEST_CASE("processes share room for pools that takes no memory until one of them fills it", "[comm][host][processes][demote]") {
  const UniqueId id = make_unique_id();
  const auto outcomes = run_ranks(RanksAre::processes, 3, [&](int rank) {
    Mesh mesh = Mesh::join(id, rank, 3, 20'000);
    SharedReserve bare(mesh, 0), reserve(mesh, small_layout.bytes());
    expect_that(!bare.has_room() && reserve.has_room() && bare.board().announced == 0, "a board of zeros, with room or without");
    const PoolBases pools = reserve.pools();
    if (rank == 1) reserve.fill(small_layout, first_epoch);
    mesh.barrier();
    for (std::size_t owner = 0; owner < 3; ++owner) {
      expect_that(control_of(pools[owner]).next == mark(first_epoch, 0), "the front is that of a pool before its first call");
      expect_that(pools[owner][small_layout.half(false, 1)] == std::byte{0xff} && pools[owner][small_layout.half(true, 0)] == std::byte{0}, "and so are the slots");
    }
    mesh.barrier();
    pools[static_cast<std::size_t>(rank)][small_layout.bytes() - 1] = static_cast<std::byte>(rank + 1);
    mesh.barrier();
    for (std::size_t owner = 0; owner < 3; ++owner) expect_that(pools[owner][small_layout.bytes() - 1] == static_cast<std::byte>(owner + 1), "what one writes all see");
  });
  CHECK(outcomes == all_well(3));
}

#if COLLECTIVES_HAS_CUDA

namespace {

/// As many ranks, on as many GPUs as there are.
std::vector<int> shared_devices(int ranks) {
  const int gpus = cuda_device_count();
  REQUIRE(gpus > 0);
  std::vector<int> devices;
  for (int rank = 0; rank < ranks; ++rank) devices.push_back(rank % gpus);
  return devices;
}

void call_on_gpu(Ranks& ranks, int rank, const Trial& trial) {
  const auto r = static_cast<std::size_t>(rank);
  ranks.communicators[r].all_reduce({ranks.in[r].data(), trial.count, trial.type}, {ranks.out[r].data(), trial.count, trial.type}, trial.op, ranks.stream(rank));
}

/// A graph a rank of one call.
class GraphOfOneCall {
 public:
  GraphOfOneCall(Ranks& ranks, const Trial& trial) : ranks_(ranks), graphs_(static_cast<std::size_t>(ranks.size())) {
    for (int rank = 0; rank < ranks.size(); ++rank) {
      const DeviceScope scope(ranks.communicators[static_cast<std::size_t>(rank)].device());
      cudaGraph_t graph = nullptr;
      cuda_check(cudaStreamBeginCapture(ranks.stream(rank), cudaStreamCaptureModeGlobal));
      call_on_gpu(ranks, rank, trial);
      cuda_check(cudaStreamEndCapture(ranks.stream(rank), &graph));
      cuda_check(cudaGraphInstantiate(&graphs_[static_cast<std::size_t>(rank)], graph, 0));
      cuda_check(cudaGraphDestroy(graph));
    }
  }
  ~GraphOfOneCall() {
    for (cudaGraphExec_t graph : graphs_) (void)cudaGraphExecDestroy(graph);
  }
  GraphOfOneCall(const GraphOfOneCall&) = delete;

  void replay() {
    for (int rank = 0; rank < ranks_.size(); ++rank) cuda_check(cudaGraphLaunch(graphs_[static_cast<std::size_t>(rank)], ranks_.stream(rank)));
  }

 private:
  Ranks& ranks_;
  std::vector<cudaGraphExec_t> graphs_;
};

}  // namespace

TEST_CASE("links go one after the other, and every collective stays exact on GPUs", "[gpu][demote]") {
  const int count = GENERATE(2, 4, 5);
  const auto collective = GENERATE(Collective::all_reduce, Collective::reduce_scatter, Collective::all_gather, Collective::all_to_all, Collective::exchange);
  const std::size_t elements = GENERATE(1031u, 300'001u);
  Ranks ranks(shared_devices(count), of_gpu_ranks(), elements * 4 * static_cast<std::size_t>(count) + 4096);
  Trial trial{.type = DataType::float32, .count = elements, .collective = collective};
  for (trial.seed = 1; trial.seed <= 12; ++trial.seed) {
    if (trial.seed == 4) ranks.communicators[0].demote(0, count - 1);
    if (trial.seed == 8 && count > 2) ranks.communicators[1].demote(2, 1);
    CAPTURE(count, name_of(collective), elements, trial.seed);
    REQUIRE(mismatches(ranks, trial) == 0);
    for (int rank = 0; rank < count; ++rank) ranks.communicators[static_cast<std::size_t>(rank)].barrier(ranks.stream(rank));
    for (int rank = 0; rank < count; ++rank) ranks.communicators[static_cast<std::size_t>(rank)].synchronize(ranks.stream(rank));
  }
  for (const auto& rank : ranks.communicators) CHECK(rank.replanned_at() > 0);
}

TEST_CASE("graphs of before, at and after a change replay with right results, among eager calls", "[gpu][demote][graph]") {
  const int count = GENERATE(2, 4);
  const std::size_t elements = GENERATE(1031u, 300'001u, 9'000'000u);
  Ranks ranks(shared_devices(count), of_gpu_ranks(), elements * 2 + 4096);
  Trial trial{.type = DataType::bfloat16, .count = elements};
  GraphOfOneCall before(ranks, trial);
  ranks.communicators[static_cast<std::size_t>(count - 1)].demote(0, 1);
  GraphOfOneCall at(ranks, trial);
  for (const auto& rank : ranks.communicators) CHECK(rank.replanned_at() == 2);
  GraphOfOneCall after(ranks, trial);
  for (trial.seed = 1; trial.seed <= 60; ++trial.seed) {
    CAPTURE(count, elements, trial.seed);
    put(ranks, trial);
    // Several in a row with the same data: what the one leaves behind meets the next.
    for (std::uint64_t turn = 0; turn < 4; ++turn) {
      const std::uint64_t which = (trial.seed + turn * (1 + trial.seed / 4)) % 4;
      if (which == 0) before.replay();
      if (which == 1) at.replay();
      if (which == 2) after.replay();
      for (int rank = 0; which == 3 && rank < count; ++rank) call_on_gpu(ranks, rank, trial);
    }
    for (int rank = 0; rank < count; ++rank) ranks.communicators[static_cast<std::size_t>(rank)].synchronize(ranks.stream(rank));
    REQUIRE(wrong_ranks(ranks, trial) == 0);
  }
}

TEST_CASE("ranks that met by an id pin the room they share when a link goes, on GPUs", "[gpu][demote]") {
  const int count = GENERATE(2, 4);
  const std::vector<int> devices = shared_devices(count);
  const UniqueId id = make_unique_id();
  const auto outcomes = run_ranks(RanksAre::threads, count, [&](int rank) {
    const DeviceScope scope(devices[static_cast<std::size_t>(rank)]);
    Communicator here = Communicator::create(id, rank, count, of_gpu_ranks());
    const CudaStream stream = make_stream();
    constexpr std::size_t elements = 50'021;
    RankMemory in(Backend::cuda, here.device(), elements * 4), out(Backend::cuda, here.device(), elements * 4), letter(Backend::cuda, here.device(), 4096);
    Trial trial{.type = DataType::float32, .count = elements};
    for (trial.seed = 1; trial.seed <= 200; ++trial.seed) {
      if (trial.seed == 60 && rank == count - 1) here.demote(0, 1);
      in.write(operand_bytes(trial, rank, elements));
      const std::vector<std::byte> said(4096, static_cast<std::byte>(trial.seed));
      if (rank == 0) letter.write(said);
      if (rank == 0) here.exchange(std::vector<Send>{{{letter.data(), 4096, DataType::uint8}, 1}}, {}, stream.get());
      here.all_reduce({in.data(), elements, trial.type}, {out.data(), elements, trial.type}, trial.op, stream.get());
      if (rank == 1) here.exchange({}, std::vector<Receive>{{{letter.data(), 4096, DataType::uint8}, 0}}, stream.get());
      here.synchronize(stream.get());
      expect_that(out.read(elements * 4) == expected_bytes(trial, count, elements), "call " + std::to_string(trial.seed) + " is exact");
      expect_that(rank != 1 || letter.read(4096) == said, "message " + std::to_string(trial.seed) + " arrives");
    }
    expect_that(here.replanned_at() >= 60 && here.replanned_at() <= 62, "it changed at " + std::to_string(here.replanned_at()));
  });
  CHECK(outcomes == all_well(count));
}

// Not a promise: whether pinning waits for a kernel that waits for this very thread depends on the driver.
TEST_CASE("a thread asks when it has made a call on one of its ranks alone, on GPUs", "[gpu][.demote_amid]") {
  Ranks ranks(shared_devices(2), of_gpu_ranks(), 1 << 20);
  const Trial trial{.type = DataType::float32, .count = 10'007, .seed = 3};
  put(ranks, trial);
  call_on_gpu(ranks, 0, trial);
  ranks.communicators[0].demote(0, 1);
  call_on_gpu(ranks, 1, trial);
  for (int rank = 0; rank < 2; ++rank) ranks.communicators[static_cast<std::size_t>(rank)].synchronize(ranks.stream(rank));
  CHECK(wrong_ranks(ranks, trial) == 0);
}

#endif
