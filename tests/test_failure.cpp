#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>

#include "base/require.hpp"
#include "ranks.hpp"
#include "test.hpp"
#include "trial.hpp"

using namespace collectives;

namespace {

using Clock = std::chrono::steady_clock;

Options on_host(std::uint32_t timeout_ms) {
  Options options;
  options.backend = Backend::host;
  options.timeout_ms = timeout_ms;
  options.pool_bytes = 8 << 20;
  options.first_epoch = 0xfffffffdu;
  return options;
}

/// Runs `body` with a communicator a rank: made by an id in processes of their own, or all in this one.
std::vector<std::string> run_communicators(RanksAre kind, int size, const Options& options, const std::function<void(Communicator&)>& body) {
  if (kind == RanksAre::processes) {
    const UniqueId id = make_unique_id();
    return run_ranks(kind, size, [&](int rank) {
      Communicator communicator = Communicator::create(id, rank, size, options);
      body(communicator);
    });
  }
  std::vector<Communicator> communicators = Communicator::create_local(std::vector<int>(static_cast<std::size_t>(size)), options);
  return run_ranks(kind, size, [&](int rank) { body(communicators[static_cast<std::size_t>(rank)]); });
}

void expect_exact(Communicator& communicator, std::uint64_t seed) {
  const std::size_t wrong = own_mismatches(communicator, {DataType::int32, ReduceOp::sum, 1031, seed % 2 == 0, 0, seed});
  require(wrong == 0, [&] { return fmt::format("call {}: {} elements wrong", seed, wrong); });
}

/// One call with `count` elements of zeros, waited for.
void reduce_zeros(Communicator& communicator, std::size_t count, DataType type, ReduceOp op) {
  std::vector<std::byte> data(count * size_of(type) + 16);
  communicator.all_reduce({data.data(), count, type}, {data.data(), count, type}, op);
  communicator.synchronize();
}

/// What every later use of a dead communicator says: the same code as the first time.
void expect_dead(Communicator& communicator, ErrorCode code) {
  for (int again = 0; again < 2; ++again) {
    const auto says = [&](const std::function<void()>& use) {
      const std::string outcome = outcome_of([&](int) { use(); }, 0);
      require(outcome.starts_with(name_of(code)), [&] { return "a later use says \"" + outcome + "\""; }, ErrorCode::internal);
    };
    says([&] { reduce_zeros(communicator, 1, DataType::int32, ReduceOp::sum); });
    says([&] { communicator.barrier(); });
    says([&] { communicator.synchronize(); });
    says([&] { communicator.finish(); });
    says([&] { communicator.check(); });
  }
}

/// Runs `call`, which must fail; checks that the communicator then stays dead, and passes the error on.
void expect_death(Communicator& communicator, const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    expect_dead(communicator, error.code());
    throw;
  }
}

/// Memory that this process and those it forks share.
template <typename T>
class SharedPage {
 public:
  SharedPage() : page_(::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) { require(page_ != MAP_FAILED, "a shared page"); }
  ~SharedPage() { ::munmap(page_, sizeof(T)); }
  T* operator->() const { return static_cast<T*>(page_); }

 private:
  void* page_;
};

struct Stopwatch {
  std::atomic<std::int64_t> killed_at;
  std::atomic<std::int64_t> calls;
  std::atomic<std::int64_t> noticed_us[max_ranks];
};

std::int64_t now_us() { return std::chrono::duration_cast<std::chrono::microseconds>(Clock::now().time_since_epoch()).count(); }

/// Ranks call in a row until rank `victim` is killed; each survivor notes when its error came.
std::vector<std::string> kill_in_mid_stream(int size, int victim, int calls_before, const SharedPage<Stopwatch>& watch) {
  const UniqueId id = make_unique_id();
  watch->killed_at = 0;
  std::vector<RankProcess> processes;
  for (int rank = 0; rank < size; ++rank)
    processes.emplace_back(
        [&](int own) {
          Communicator communicator = Communicator::create(id, own, size, on_host(20'000));
          expect_death(communicator, [&] {
            for (std::uint64_t seed = 0;; ++seed) {
              if (own == victim) watch->calls = static_cast<std::int64_t>(seed);
              if (own == victim && seed == static_cast<std::uint64_t>(calls_before)) {
                watch->killed_at = now_us();
                ::kill(::getpid(), SIGKILL);
              }
              try {
                expect_exact(communicator, seed);
              } catch (const Error&) {
                watch->noticed_us[own] = now_us() - watch->killed_at;
                throw;
              }
            }
          });
        },
        rank);
  std::vector<std::string> outcomes;
  for (auto& process : processes) outcomes.push_back(process.outcome());
  return outcomes;
}

}  // namespace

TEST_CASE("when a rank is killed every survivor names it within a second and stays dead", "[comm][host][failure]") {
  const SharedPage<Stopwatch> watch;
  std::int64_t slowest = 0;
  int kills = 0;
  for (const int size : {2, 3, 4})
    for (int victim = 0; victim < size; ++victim) {
      const int calls_before = 17 * size + 5 * victim;
      CAPTURE(size, victim, calls_before);
      const auto outcomes = kill_in_mid_stream(size, victim, calls_before, watch);
      ++kills;
      for (int rank = 0; rank < size; ++rank) {
        CAPTURE(rank);
        if (rank == victim) continue;
        CHECK_THAT(outcomes[static_cast<std::size_t>(rank)], ContainsSubstring("peer lost: ") && ContainsSubstring(fmt::format("rank {} has gone", victim)));
        CHECK(watch->noticed_us[rank] < 1'000'000);
        slowest = std::max<std::int64_t>(slowest, watch->noticed_us[rank]);
      }
    }
  WARN(kills << " ranks killed; the slowest survivor noticed after " << static_cast<double>(slowest) / 1000 << " ms");
}

TEST_CASE("a rank killed at any moment of a stream of calls never leaves a survivor without its name", "[comm][host][failure]") {
  const SharedPage<Stopwatch> watch;
  int survivors = 0;
#if defined(__SANITIZE_THREAD__)
  constexpr int attempts = 6;  // of which ThreadSanitizer sees one process at a time
#else
  constexpr int attempts = 20;
#endif
  for (int attempt = 0; attempt < attempts; ++attempt) {
    const UniqueId id = make_unique_id();
    watch->calls = 0;
    const auto body = [&](int rank) {
      Communicator communicator = Communicator::create(id, rank, 3, on_host(20'000));
      for (std::uint64_t seed = 0;; ++seed) {
        expect_exact(communicator, seed);
        if (rank == 1) watch->calls = static_cast<std::int64_t>(seed);
      }
    };
    RankProcess first(body, 0), victim(body, 1), last(body, 2);
    while (watch->calls.load() < 20 + 7 * attempt) std::this_thread::yield();
    ::kill(victim.pid, SIGKILL);
    for (RankProcess* survivor : {&first, &last}) {
      const std::string outcome = survivor->outcome();
      CHECK_THAT(outcome, ContainsSubstring("peer lost: ") && ContainsSubstring("rank 1 has gone"));
      ++survivors;
    }
    victim.outcome();
  }
  WARN(survivors << " survivors");
}

TEST_CASE("a rank that never calls is named with the call after the deadline", "[comm][host][failure]") {
  const auto kind = GENERATE(RanksAre::threads, RanksAre::processes);
  const int size = 3, absent = GENERATE(0, 1, 2);
  CAPTURE(kind == RanksAre::processes, absent);
  const SharedPage<std::atomic<int>> done;
  const auto outcomes = run_communicators(kind, size, on_host(250), [&](Communicator& communicator) {
    for (std::uint64_t seed = 0; seed < 5; ++seed) expect_exact(communicator, seed);
    if (communicator.rank() == absent) {
      // Stays until the others are done: it is there, but it does not call.
      while (done->load() < size - 1) std::this_thread::yield();
      return;
    }
    const auto begin = Clock::now();
    const std::string outcome = outcome_of([&](int) { expect_death(communicator, [&] { expect_exact(communicator, 5); }); }, 0);
    done->fetch_add(1);
    const auto took = Clock::now() - begin;
    require(took < std::chrono::seconds(5), "the deadline holds", ErrorCode::internal);
    throw Error(ErrorCode::internal, outcome);
  });
  for (int rank = 0; rank < size; ++rank) {
    const auto& outcome = outcomes[static_cast<std::size_t>(rank)];
    if (rank == absent) {
      CHECK(outcome == "ok");
      continue;
    }
    CHECK_THAT(outcome, ContainsSubstring("timeout: ") && ContainsSubstring("call 5") && ContainsSubstring(fmt::format("rank {}", absent)) &&
                            ContainsSubstring("did not come"));
  }
}

TEST_CASE("calls that differ are a mismatch on every rank, and name the rank and the call", "[comm][host][failure]") {
#if defined(__SANITIZE_THREAD__)
  // Ranks that lay out different calls write where others read until they notice; across processes that is not reported.
  const auto kind = RanksAre::processes;
#else
  const auto kind = GENERATE(RanksAre::threads, RanksAre::processes);
#endif
#if defined(__SANITIZE_THREAD__)
  const std::vector<AlgorithmChoice> algorithms = {{Algorithm::ring}};
#elif defined(__SANITIZE_ADDRESS__)
  const std::vector<AlgorithmChoice> algorithms = {{Algorithm::one_shot}, {Algorithm::ring}};
#else
  const std::vector<AlgorithmChoice> algorithms = {{Algorithm::one_shot}, {Algorithm::two_shot}, {Algorithm::ring}, {Algorithm::balanced_tree}};
#endif
  const auto wire = GENERATE(Wire::flagged, Wire::sentinel);
  struct Different {
    const char* what;
    std::size_t count;
    DataType type;
    ReduceOp op;
  };
  const std::vector<Different> differences = {{"one element more", 1001, DataType::float32, ReduceOp::sum}, {"many more", 300'000, DataType::float32, ReduceOp::sum},
                                              {"fewer", 1, DataType::float32, ReduceOp::sum},               {"another type of that size", 1000, DataType::int32, ReduceOp::sum},
                                              {"a narrower type", 1000, DataType::bfloat16, ReduceOp::sum}, {"another operation", 1000, DataType::float32, ReduceOp::max}};
  std::size_t cases = 0;
  for (const AlgorithmChoice algorithm : algorithms)
    for (const Different& different : differences)
      for (const int size : {2, 3}) {
        const int odd = static_cast<int>(cases++) % size;
        CAPTURE(different.what, size, odd, to_string(algorithm), name_of(wire), kind == RanksAre::processes);
        Options options = on_host(20'000);
        options.wire = wire;
        options.algorithm = algorithm;
        const auto outcomes = run_communicators(kind, size, options, [&](Communicator& communicator) {
          for (std::uint64_t seed = 0; seed < 3; ++seed) expect_exact(communicator, seed);
          expect_death(communicator, [&] {
            if (communicator.rank() == odd) return reduce_zeros(communicator, different.count, different.type, different.op);
            reduce_zeros(communicator, 1000, DataType::float32, ReduceOp::sum);
          });
        });
        for (int rank = 0; rank < size; ++rank) {
          CAPTURE(rank);
          const auto& outcome = outcomes[static_cast<std::size_t>(rank)];
          CHECK_THAT(outcome, ContainsSubstring("mismatched calls: ") && ContainsSubstring("call 3") && ContainsSubstring("made a different call"));
          // The odd one finds everyone else different; of three, the two others find it.
          if (rank != odd && size == 2) CHECK_THAT(outcome, ContainsSubstring(fmt::format("rank {}", odd)));
        }
      }
  WARN(cases << " mismatches seen on every rank");
}

TEST_CASE("abort ends this rank's later calls and its peers' running ones", "[comm][host][failure]") {
  const auto kind = GENERATE(RanksAre::threads, RanksAre::processes);
  const SharedPage<std::atomic<int>> ready, done;
  const auto outcomes = run_communicators(kind, 3, on_host(20'000), [&](Communicator& communicator) {
    const std::string outcome = outcome_of(
        [&](int) {
          for (std::uint64_t seed = 0; seed < 4; ++seed) expect_exact(communicator, seed);
          // Who aborts ends what its peers have not finished, so they must have.
          communicator.barrier();
          communicator.synchronize();
          ready->fetch_add(1);
          while (ready->load() < 3) std::this_thread::yield();
          expect_death(communicator, [&] {
            // Twice: aborting a dead communicator is no error.
            if (communicator.rank() == 2) communicator.abort(), communicator.abort();
            expect_exact(communicator, 4);
          });
        },
        0);
    done->fetch_add(1);
    while (done->load() < 3) std::this_thread::yield();
    throw Error(ErrorCode::internal, outcome);
  });
  CHECK_THAT(outcomes[2], ContainsSubstring("aborted: ") && ContainsSubstring("aborted here"));
  for (const std::size_t rank : {0U, 1U}) CHECK_THAT(outcomes[rank], ContainsSubstring("aborted: ") && ContainsSubstring("rank 2 reports that it aborted"));
}

TEST_CASE("abort from another thread ends a call that is running", "[comm][host][failure]") {
  auto communicators = Communicator::create_local({0, 0}, on_host(20'000));
  std::vector<int> data(100);
  communicators[0].all_reduce({data.data(), 100, DataType::int32}, {data.data(), 100, DataType::int32}, ReduceOp::sum);
  std::thread other([&] { communicators[0].abort(); });
  const std::string outcome = outcome_of([&](int) { communicators[0].synchronize(); }, 0);
  other.join();
  CHECK_THAT(outcome, ContainsSubstring("aborted: "));
  // The first of these finds all that rank 0 had to send; the second does not.
  for (int call = 0; call < 2; ++call) communicators[1].all_reduce({data.data(), 100, DataType::int32}, {data.data(), 100, DataType::int32}, ReduceOp::sum);
  CHECK_THAT(outcome_of([&](int) { communicators[1].synchronize(); }, 0), ContainsSubstring("rank 0 reports that it aborted"));
}

TEST_CASE("a communicator with a call that nobody answers is destroyed within its deadline", "[comm][host][failure]") {
  const auto begin = Clock::now();
  std::vector<int> data(100);
  {
    auto communicators = Communicator::create_local({0, 0}, on_host(200));
    for (int call = 0; call < 3; ++call)
      communicators[0].all_reduce({data.data(), 100, DataType::int32}, {data.data(), 100, DataType::int32}, ReduceOp::sum);
  }
  CHECK(Clock::now() - begin < std::chrono::seconds(3));
}

namespace {

struct Refused {
  const char* what;
  ConstBuffer in;
  Buffer out;
  ReduceOp op;
  const char* text;
};

std::vector<Refused> refused_calls(std::byte* a, std::byte* b) {
  constexpr auto f = DataType::float32;
  const auto no_type = static_cast<DataType>(data_type_count), fp8 = static_cast<DataType>(200);
  const auto sum = ReduceOp::sum;
  return {{"null input", {nullptr, 10, f}, {b, 10, f}, sum, "in is null"},
          {"null output", {a, 10, f}, {nullptr, 10, f}, sum, "out is null"},
          {"input unaligned for its type", {a + 2, 10, f}, {b, 10, f}, sum, "aligned to the 4 bytes of a float"},
          {"output unaligned for its type", {a, 10, DataType::int64}, {b + 4, 10, DataType::int64}, sum, "aligned to the 8 bytes of a int64"},
          {"half at an odd address", {a + 1, 10, DataType::float16}, {b, 10, DataType::float16}, sum, "aligned to the 2 bytes of a half"},
          {"output in the input", {a, 10, f}, {a + 4, 10, f}, sum, "in and out overlap"},
          {"input in the output", {a + 36, 10, f}, {a, 10, f}, sum, "in and out overlap"},
          {"unknown type", {a, 10, no_type}, {b, 10, no_type}, sum, "type 12 is unknown"},
          {"a type of other libraries", {a, 10, fp8}, {b, 10, fp8}, sum, "type 200 is unknown"},
          {"unknown operation", {a, 10, f}, {b, 10, f}, static_cast<ReduceOp>(reduce_op_count), "operation 5 is unknown"},
          {"unequal counts", {a, 10, f}, {b, 11, f}, sum, "out has 11 elements: expected 10"},
          {"unequal types", {a, 10, f}, {b, 10, DataType::int32}, sum, "in is float and out is int32"},
          {"unknown type of the output", {a, 10, f}, {b, 10, no_type}, sum, "in is float and out is unknown"},
          {"a count beyond memory", {a, std::numeric_limits<std::size_t>::max() / 4, f}, {a, std::numeric_limits<std::size_t>::max() / 4, f}, sum, "larger than any memory"}};
}

}  // namespace

TEST_CASE("a refused call says what was expected, writes nothing and leaves the communicator usable", "[comm][host][failure]") {
  Ranks ranks({0, 1, 2}, on_host(20'000), 64 << 10);
  alignas(16) std::byte a[128], b[128];
  std::size_t refusals = 0;
  std::uint64_t seed = 0;
  for (const Refused& refused : refused_calls(a, b)) {
    CAPTURE(refused.what);
    std::fill(std::begin(a), std::end(a), std::byte{0x11});
    std::fill(std::begin(b), std::end(b), std::byte{0x22});
    // On one rank only: had anything been enqueued, the next call would not match its peers'.
    auto& communicator = ranks.communicators[refusals++ % 3];
    const std::string outcome = outcome_of([&](int) { communicator.all_reduce(refused.in, refused.out, refused.op); }, 0);
    CHECK_THAT(outcome, ContainsSubstring("invalid argument: ") && ContainsSubstring(refused.text));
    CHECK_NOTHROW(communicator.synchronize());
    CHECK(std::all_of(std::begin(a), std::end(a), [](std::byte x) { return x == std::byte{0x11}; }));
    CHECK(std::all_of(std::begin(b), std::end(b), [](std::byte x) { return x == std::byte{0x22}; }));
    CHECK(mismatches(ranks, {DataType::float32, ReduceOp::sum, 257, false, 0, ++seed}) == 0);
  }
  WARN(refusals << " calls refused");
}

TEST_CASE("nothing is needed for a count of nothing", "[comm][host][failure]") {
  auto communicators = Communicator::create_local({0, 1}, on_host(200));
  // One rank alone: there is nothing to wait for.
  communicators[0].all_reduce({nullptr, 0, DataType::float32}, {nullptr, 0, DataType::float32}, ReduceOp::sum);
  CHECK_NOTHROW(communicators[0].synchronize());
}

TEST_CASE("a plan is not asked for with a type or an operation that does not exist", "[comm][host][failure]") {
  const auto communicators = Communicator::create_local({0, 1}, on_host(200));
  CHECK_THROWS_AS(communicators[0].plan_for(1, static_cast<DataType>(77), ReduceOp::sum), Error);
  CHECK_THROWS_AS(communicators[0].explain(1, DataType::int8, static_cast<ReduceOp>(77)), Error);
}

namespace {

struct Variable {
  const char* name;
  Variable(const char* name, const char* value) : name(name) { ::setenv(name, value, 1); }
  ~Variable() { ::unsetenv(name); }
};

std::string made_with(const Options& options, int ranks = 2) {
  return outcome_of([&](int) { Communicator::create_local(std::vector<int>(static_cast<std::size_t>(ranks)), options); }, 0);
}

}  // namespace

TEST_CASE("a communicator is not made from options or an environment that make no sense", "[comm][host][failure]") {
  Options host;
  host.backend = Backend::host;
  CHECK(made_with(host) == "ok");
  CHECK_THAT(made_with(host, 0), ContainsSubstring("0 ranks: expected 1 to 16"));
  CHECK_THAT(made_with(host, 17), ContainsSubstring("17 ranks: expected 1 to 16"));

  Options small = host;
  small.pool_bytes = 100'000;
  CHECK_THAT(made_with(small), ContainsSubstring("out of memory: the pool is too small: a rank needs at least") && ContainsSubstring("COLLECTIVES_POOL_BYTES"));
  Options at_once = host;
  at_once.timeout_ms = 0;
  CHECK_THAT(made_with(at_once), ContainsSubstring("invalid argument: a deadline of 0 ms"));
  Options negative = host;
  negative.max_blocks = -1;
  CHECK_THAT(made_with(negative), ContainsSubstring("invalid argument: max_blocks is -1"));
  Options torn = host;
  torn.invariant = true;
  torn.algorithm = AlgorithmChoice{Algorithm::ring};
  CHECK_THAT(made_with(torn), ContainsSubstring("invalid argument: ring is forced"));
  Options wide = host;
  wide.algorithm = AlgorithmChoice{Algorithm::kary_tree, 16};
  CHECK_THAT(made_with(wide), ContainsSubstring("invalid argument: a tree's arity is 1 to 15"));

  struct Bad {
    const char *name, *value, *text;
  };
  for (const Bad& bad : {Bad{"COLLECTIVES_ALGORITHM", "butterfly", "expected an algorithm, one of one_shot"}, Bad{"COLLECTIVES_ALGORITHM", "kary_tree:99", "kary_tree:K"},
                         Bad{"COLLECTIVES_POOL_BYTES", "plenty", "COLLECTIVES_POOL_BYTES=plenty"}, Bad{"COLLECTIVES_POOL_BYTES", "1000", "out of memory: "},
                         Bad{"COLLECTIVES_TIMEOUT_MS", "soon", "COLLECTIVES_TIMEOUT_MS=soon"}, Bad{"COLLECTIVES_TIMEOUT_MS", "0", "milliseconds from 1"},
                         Bad{"COLLECTIVES_P2P", "0:1", "COLLECTIVES_P2P=0:1"}, Bad{"COLLECTIVES_LOG", "loud", "COLLECTIVES_LOG=loud"},
                         Bad{"COLLECTIVES_MACHINE", "/nowhere/machine.json", "/nowhere/machine.json"}}) {
    CAPTURE(bad.name, bad.value);
    const Variable variable(bad.name, bad.value);
    CHECK_THAT(made_with(host), ContainsSubstring(bad.text));
  }
  CHECK(made_with(host) == "ok");
}

TEST_CASE("a malformed machine file is refused with its place, and the next communicator is none the worse", "[comm][host][failure]") {
  const std::string path = (std::filesystem::temp_directory_path() / fmt::format("machine-{}.json", ::getpid())).string();
  Options host;
  host.backend = Backend::host;
  for (const char* text : {"", "{", "{\"nodes\": 3}", "not json at all", "[1, 2"}) {
    CAPTURE(text);
    std::ofstream(path) << text;
    const Variable variable("COLLECTIVES_MACHINE", path.c_str());
    CHECK_THAT(made_with(host), ContainsSubstring("invalid argument: "));
  }
  std::filesystem::remove(path);
  CHECK(made_with(host) == "ok");
}
