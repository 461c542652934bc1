// Ranks that measure together what their calls take, and plan by it from then on.
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <thread>

#include "comm/timings_cache.hpp"
#include "comm/tuning.hpp"
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

constexpr std::size_t kib = 1024;

TuneOptions quickly() {
  TuneOptions options;
  options.sizes = {kib, 16 * kib, 128 * kib};
  options.budget_ms = 20'000;
  options.keep = false;
  return options;
}

void expect_right(Communicator& communicator, std::uint64_t seed) {
  for (const std::size_t count : {std::size_t{1}, std::size_t{1031}, std::size_t{40'000}}) {
    const std::size_t wrong = own_mismatches(communicator, {.type = DataType::float32, .count = count, .seed = seed + count}) +
                              own_mismatches(communicator, {.type = DataType::int32, .count = count, .seed = seed + count, .collective = Collective::all_gather});
    expect_that(wrong == 0, std::to_string(wrong) + " bytes are wrong of " + std::to_string(count) + " elements");
  }
}

void expect_same_plans(Communicator& communicator) {
  for (const DataType type : {DataType::bfloat16, DataType::int32})
    for (std::size_t bytes = 64; bytes <= 4096 * kib; bytes *= 4) {
      const Plan plan = communicator.plan_for(bytes / size_of(type), type, ReduceOp::sum);
      const std::uint64_t told = static_cast<std::uint64_t>(plan.choice.algorithm) << 32 | static_cast<std::uint64_t>(plan.choice.arity) << 24 | static_cast<std::uint64_t>(plan.stages);
      expect_that(agrees(communicator, told ^ plan.tile_bytes << 40), "ranks have different plans for " + std::to_string(bytes) + " bytes");
      expect_that(agrees(communicator, static_cast<std::uint64_t>(plan.predicted_us * 1e3)), "ranks predict different times");
    }
}

/// A place for kept tables that nobody else has.
struct OwnCache {
  OwnCache() : folder(::mkdtemp(name)), variable("XDG_CACHE_HOME", folder) {}
  ~OwnCache() { std::filesystem::remove_all(folder); }
  char name[32] = "/tmp/collectives-tune.XXXXXX";
  std::string folder;
  Variable variable;
};

}  // namespace

TEST_CASE("a search measures all that may be the fastest by what it has seen, and nothing else", "[comm][tune]") {
  // The model is four times too hopeful of all but the last, of which it thinks worst.
  Rehearsal rehearsal{.request = {}, .kind = {}, .candidates = {}, .measured_ns = {}};
  const double modelled[] = {10, 12, 20, 39, 1000};
  for (int i = 0; i < 5; ++i) {
    Plan plan;
    plan.choice = {Algorithm::kary_tree, i + 2};
    plan.bytes = 4096;
    plan.predicted_us = modelled[i];
    rehearsal.candidates.push_back(plan);
  }
  rehearsal.measured_ns.resize(5);
  const auto measure = [&](const Rehearsal&, const Plan& plan) -> std::uint64_t { return plan.choice.arity == 5 ? 39'000 : static_cast<std::uint64_t>(4e3 * plan.predicted_us); };
  {
    std::vector<Rehearsal> rehearsals = {rehearsal};
    Timings timings;
    CHECK(search(rehearsals, timings, measure));
    CHECK(rehearsals[0].measured_ns == std::vector<std::uint64_t>{40'000, 48'000, 80'000, 39'000, 0});
    CHECK(timings.plans.size() == 4);
  }
  std::vector<Rehearsal> rehearsals = {rehearsal};
  Timings timings;
  int left = 2;
  CHECK_FALSE(search(rehearsals, timings, [&](const Rehearsal& r, const Plan& plan) { return left-- == 0 ? 0 : measure(r, plan); }));
  CHECK(timings.plans.size() == 2);
}

TEST_CASE("ranks that were tuned have one table, plan by it alike, and their results are right", "[comm][host][tune]") {
  const auto kind = GENERATE(from_range(all_ways()));
  CHECK(run_everywhere(kind, 4, of_host_ranks(), [&](Communicator& here) {
          expect_right(here, 1);
          const std::uint64_t before = here.replanned_at();
          const TuneReport report = here.tune(quickly());
          expect_that(report.complete, "20 s were too little");
          expect_that(before == 0 && here.replanned_at() > 0, "the plans did not change");
          expect_that(report.sizes.size() == 6, "not a row for each size and way of types");
          for (const TunedSize& size : report.sizes) {
            const Plan now = here.plan_for(size.request);
            expect_that(now.choice == size.after.choice, "a plan that was not announced");
            expect_that(size.after.measured, "a plan was taken that nobody measured");
            expect_that(size.candidates.front().measured_us > 0 && agrees(here, static_cast<std::uint64_t>(size.candidates.front().measured_us * 1e3)), "ranks have different tables");
            // What is taken took no longer than what was the fastest, but for what direct algorithms are worth.
            for (const TunedCandidate& candidate : size.candidates)
              if (candidate.choice == size.after.choice) expect_that(candidate.measured_us > 0 && candidate.measured_us <= 1.11 * size.candidates.front().measured_us, "a slow plan is taken");
          }
          expect_same_plans(here);
          expect_right(here, 2);
        }) == all_well(4));
}

TEST_CASE("what was enqueued before ranks are tuned ends as it began, and they may be tuned again", "[comm][host][tune]") {
  CHECK(run_everywhere(MadeAs::threads_of_one, 3, of_host_ranks(), [&](Communicator& here) {
          std::vector<int> values(1000, here.rank() + 1);
          here.all_reduce({values.data(), values.size(), DataType::int32}, {values.data(), values.size(), DataType::int32}, ReduceOp::sum);
          TuneOptions options = quickly();
          options.sizes = {kib};
          (void)here.tune(options);
          for (const int value : values) expect_that(value == 6, "a call from before was spoiled");
          options.sizes = {4 * kib};
          options.collectives = {Collective::all_gather, Collective::broadcast};
          const TuneReport report = here.tune(options);
          expect_that(report.sizes.size() == 2 && report.sizes[0].after.measured, "other collectives were not tuned");
          expect_that(here.plan_for(kib / 2, DataType::bfloat16, ReduceOp::sum).measured, "what was measured first is forgotten");
          expect_right(here, 3);
        }) == all_well(3));
}

TEST_CASE("a time that is up ends tuning on all ranks, with what is known by then", "[comm][host][tune]") {
  CHECK(run_everywhere(MadeAs::threads_by_id, 4, of_host_ranks(), [&](Communicator& here) {
          TuneOptions options = quickly();
          options.budget_ms = 0;
          const TuneReport report = here.tune(options);
          expect_that(!report.complete, "nothing can be complete in no time");
          for (const TunedSize& size : report.sizes) expect_that(size.before.choice == size.after.choice && !size.after.measured, "a plan changed for nothing");
          expect_same_plans(here);
          expect_right(here, 4);
        }) == all_well(4));
}

TEST_CASE("options that cannot be tried are refused, and nothing has changed", "[comm][host][tune]") {
  auto ranks = Communicator::create_local(counted(2), of_host_ranks());
  TuneOptions options = quickly();
  options.collectives = {Collective::all_to_all};
  CHECK_THROWS_WITH(ranks[0].tune(options), ContainsSubstring("all_to_all cannot be tuned"));
  options = quickly();
  options.sizes = {8};
  CHECK_THROWS_WITH(ranks[0].tune(options), ContainsSubstring("a size of 8 bytes"));
  options.sizes = {};
  CHECK_THROWS_WITH(ranks[0].tune(options), ContainsSubstring("nothing to tune"));
  CHECK(ranks[0].replanned_at() == 0);
  CHECK_NOTHROW(ranks[0].check());
  auto alone = Communicator::create_local({0}, of_host_ranks());
  CHECK(alone[0].tune(quickly()).complete);
}

TEST_CASE("a rank that dies while ranks are tuned ends that for the others", "[comm][host][tune][failure]") {
  Options options = of_host_ranks();
  SECTION("by abort, in threads") {
    auto ranks = Communicator::create_local(counted(4), options);
    std::thread killer;
    const auto outcomes = run_ranks(RanksAre::threads, 4, [&](int rank) {
      if (rank == 2) killer = std::thread([&] { ::usleep(30'000), ranks[2].abort(); });
      TuneOptions long_ones = quickly();
      long_ones.sizes.assign(2000, 64 * kib);
      (void)ranks[static_cast<std::size_t>(rank)].tune(long_ones);
    });
    killer.join();
    for (const std::string& outcome : outcomes) CHECK_THAT(outcome, ContainsSubstring("rank 2"));
    for (auto& rank : ranks) CHECK_THROWS_AS(rank.barrier(), Error);
  }
#if !defined(__SANITIZE_THREAD__)
  SECTION("killed, as a process") {
    const UniqueId id = make_unique_id();
    const auto outcomes = run_ranks(RanksAre::processes, 4, [&](int rank) {
      Communicator here = Communicator::create(id, rank, 4, options);
      std::thread killer;
      if (rank == 1) killer = std::thread([] { ::usleep(30'000), ::_exit(0); });
      TuneOptions long_ones = quickly();
      long_ones.sizes.assign(2000, 64 * kib);
      try {
        (void)here.tune(long_ones);
      } catch (const Error& error) {
        if (killer.joinable()) killer.join();
        throw;
      }
    });
    for (const int rank : {0, 2, 3}) CHECK_THAT(outcomes[static_cast<std::size_t>(rank)], ContainsSubstring("peer lost") && ContainsSubstring("rank 1 has gone"));
  }
#endif
}

TEST_CASE("a link that is taken out while ranks are tuned ends that without a table, and one taken out later is out", "[comm][host][tune][demote]") {
  CHECK(run_everywhere(MadeAs::threads_by_id, 4, of_host_ranks(), [&](Communicator& here) {
          TuneOptions long_ones = quickly();
          long_ones.sizes.assign(60, 64 * kib);
          // The others wait for it in their first call then, and the link goes with the next.
          if (here.rank() == 3) ::usleep(5'000), here.demote(0, 3);
          (void)here.tune(long_ones);
          expect_right(here, 5);
          expect_same_plans(here);
          (void)here.tune(quickly());
          expect_right(here, 6);
          if (here.rank() == 1) here.demote(1, 2);
          for (std::uint64_t seed = 7; seed < 40; ++seed) expect_right(here, seed);
          expect_same_plans(here);
        }) == all_well(4));
}

TEST_CASE("communicators that come from one that was tuned are right, whatever they plan by", "[comm][host][tune][split]") {
  const OwnCache cache;
  CHECK(run_everywhere(MadeAs::threads_of_one, 4, of_host_ranks(), [&](Communicator& here) {
          (void)here.tune(quickly());
          auto half = here.split(here.rank() % 2, 0, of_host_ranks());
          expect_that(half && half->size() == 2 && half->replanned_at() == 0, "no half");
          expect_right(*half, 8);
          expect_same_plans(*half);
          (void)half->tune(quickly());
          expect_right(*half, 9);
          here.renew(of_host_ranks());
          expect_that(here.replanned_at() == 0, "a renewed communicator begins anew");
          expect_same_plans(here);
          expect_right(here, 10);
        }) == all_well(4));
}

namespace {

bool plans_by_measurements(const Communicator& communicator) { return communicator.plan_for(8 * kib, DataType::bfloat16, ReduceOp::sum).measured; }

std::vector<std::filesystem::path> kept_files(const OwnCache& cache) {
  std::vector<std::filesystem::path> files;
  const std::filesystem::path folder = std::filesystem::path(cache.folder) / "collectives";
  if (std::filesystem::exists(folder))
    for (const auto& entry : std::filesystem::directory_iterator(folder)) files.push_back(entry.path());
  return files;
}

/// Tuned, and the table kept.
void tune_and_keep(int ranks, const Options& options) {
  auto communicators = Communicator::create_local(counted(ranks), options);
  const auto outcomes = run_ranks(RanksAre::threads, ranks, [&](int rank) {
    TuneOptions tuning = quickly();
    tuning.keep = true;
    expect_that(communicators[static_cast<std::size_t>(rank)].tune(tuning).kept == (rank == 0), "not kept, or by several");
  });
  REQUIRE(outcomes == all_well(ranks));
}

}  // namespace

TEST_CASE("what was measured is kept for communicators on the same ranks, however they are made, and for no others", "[comm][host][tune][cache]") {
  const OwnCache cache;
  CHECK_FALSE(plans_by_measurements(Communicator::create_local(counted(3), of_host_ranks())[0]));
  CHECK(kept_files(cache).empty());
  tune_and_keep(3, of_host_ranks());
  REQUIRE(kept_files(cache).size() == 1);
  CHECK(std::filesystem::status(kept_files(cache)[0]).permissions() == (std::filesystem::perms::owner_read | std::filesystem::perms::owner_write));

  const auto kind = GENERATE(from_range(all_ways()));
  CHECK(run_everywhere(kind, 3, of_host_ranks(), [&](Communicator& here) {
          expect_that(plans_by_measurements(here) && here.replanned_at() == 0, "what was kept is not used");
          expect_that(here.explain(kib, DataType::bfloat16, ReduceOp::sum).explanation.find("These ranks were tuned at") != std::string::npos, "nothing says so");
          expect_same_plans(here);
          expect_right(here, 11);
          here.renew(of_host_ranks());
          expect_that(plans_by_measurements(here), "a renewed communicator has forgotten it");
          expect_right(here, 12);
        }) == all_well(3));
  CHECK_FALSE(plans_by_measurements(Communicator::create_local(counted(2), of_host_ranks())[0]));
  Options options = of_host_ranks();
  options.wire = Wire::sentinel;
  CHECK_FALSE(plans_by_measurements(Communicator::create_local(counted(3), options)[0]));
  options = of_host_ranks();
  options.pool_bytes = std::size_t{4} << 20;
  CHECK_FALSE(plans_by_measurements(Communicator::create_local(counted(3), options)[0]));
  options = of_host_ranks();
  options.refused = {{0, 1}};
  CHECK_FALSE(plans_by_measurements(Communicator::create_local(counted(3), options)[0]));
  options = of_host_ranks();
  options.tuned = false;
  CHECK_FALSE(plans_by_measurements(Communicator::create_local(counted(3), options)[0]));
  const Variable ignore("COLLECTIVES_TUNED", "0");
  CHECK_FALSE(plans_by_measurements(Communicator::create_local(counted(3), of_host_ranks())[0]));
  options.tuned = true;
  CHECK(plans_by_measurements(Communicator::create_local(counted(3), options)[0]));
}

TEST_CASE("ranks without the table take rank 0's", "[comm][host][tune][cache]") {
  const OwnCache cache;
  tune_and_keep(3, of_host_ranks());
  const UniqueId id = make_unique_id();
  const auto outcomes = run_ranks(RanksAre::processes, 3, [&](int rank) {
    if (rank > 0) ::setenv("XDG_CACHE_HOME", "/nowhere", 1);
    Communicator here = Communicator::create(id, rank, 3, of_host_ranks());
    expect_that(plans_by_measurements(here), "rank 0's table did not come");
    expect_same_plans(here);
    expect_right(here, 13);
  });
  CHECK(outcomes == all_well(3));
}

TEST_CASE("a kept table that is old, broken, another's or of other ranks is left alone", "[comm][tune][cache]") {
  namespace fs = std::filesystem;
  const OwnCache cache;
  const fs::path file = fs::path(cache.folder) / "collectives" / "timings.json";
  Timings timings{.taken_at = 1000, .plans = {}};
  timings.record({}, {Algorithm::ring}, false, {4096, 2500, 2600});
  write_timings(file, "these ranks", timings);
  CHECK(read_timings(file, "these ranks", 1000) == timings);
  CHECK(read_timings(file, "these ranks", 1000 + cache_lifetime_s) == timings);
  CHECK_FALSE(read_timings(file, "these ranks", 1001 + cache_lifetime_s));
  CHECK_FALSE(read_timings(file, "these ranks", 999));
  CHECK_FALSE(read_timings(file, "those ranks", 1000));
  CHECK_FALSE(read_timings(file.parent_path() / "none", "these ranks", 1000));
  fs::create_symlink(file, file.parent_path() / "link");
  CHECK_FALSE(read_timings(file.parent_path() / "link", "these ranks", 1000));
  CHECK_FALSE(read_timings(file.parent_path(), "these ranks", 1000));
  REQUIRE(::mkfifo((file.parent_path() / "pipe").c_str(), 0600) == 0);
  CHECK_FALSE(read_timings(file.parent_path() / "pipe", "these ranks", 1000));
  fs::permissions(file, fs::perms::others_write, fs::perm_options::add);
  CHECK_FALSE(read_timings(file, "these ranks", 1000));
  fs::permissions(file, fs::perms::others_write, fs::perm_options::remove);
  REQUIRE(read_timings(file, "these ranks", 1000));

  // No byte of it may change, be missing or be one more, but where it makes no difference to what is read.
  std::stringstream text;
  text << std::ifstream(file).rdbuf();
  const std::string good = text.str();
  const auto reads = [&](const std::string& other) {
    try {
      const auto read = timings_in(other, "these ranks", 1000);
      if (read) CHECK(*read == timings);
      return read.has_value();
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::invalid_argument);
      return false;
    }
  };
  int same = 0;
  for (std::size_t place = 0; place < good.size(); ++place) {
    CHECK_FALSE(reads(good.substr(0, place)));
    std::string other = good;
    other[place] = static_cast<char>(other[place] ^ (place % 2 == 0 ? 1 : 0x20));
    same += reads(other);
  }
  CHECK(same < 40);  // white space
  CHECK_FALSE(reads(std::string(100'000, '[')));
  REQUIRE(reads(good));
  std::ofstream(file) << std::string(5u << 20, ' ');
  CHECK_FALSE(read_timings(file, "these ranks", 1000));
}

TEST_CASE("a broken table in the cache costs nothing but the table", "[comm][host][tune][cache]") {
  const OwnCache cache;
  tune_and_keep(3, of_host_ranks());
  const auto files = kept_files(cache);
  REQUIRE(files.size() == 1);
  std::ofstream(files[0]) << "{\"format\":1,\"identity\":3,\"check\":[],\"timings\":{}}";
  auto ranks = Communicator::create_local(counted(3), of_host_ranks());
  CHECK_FALSE(plans_by_measurements(ranks[0]));
  tune_and_keep(3, of_host_ranks());
  CHECK(plans_by_measurements(Communicator::create_local(counted(3), of_host_ranks())[0]));
}

#if COLLECTIVES_HAS_CUDA
namespace {

/// Every GPU there is, up to four.
std::vector<int> own_devices() {
  const int gpus = cuda_device_count();
  REQUIRE(gpus > 0);
  return counted(std::min(gpus, 4));
}

void reduce(Ranks& ranks, const Trial& trial, int rank) {
  ranks.communicators[static_cast<std::size_t>(rank)].all_reduce({ranks.in[static_cast<std::size_t>(rank)].data(), trial.count, trial.type},
                                                                 {ranks.out[static_cast<std::size_t>(rank)].data(), trial.count, trial.type}, trial.op, ranks.stream(rank));
}

}  // namespace

TEST_CASE("GPUs that were tuned plan by one table, in eager calls and in graphs of before and after, and keep it", "[gpu][tune]") {
  const std::vector<int> devices = own_devices();
  if (devices.size() < 2) return;  // what follows is of ranks that do not share a GPU
  const OwnCache cache;
  constexpr std::size_t elements = 300'001;
  Ranks ranks(devices, of_gpu_ranks(), elements * 4 + 4096);
  Trial trial{.type = DataType::bfloat16, .count = elements};
  std::vector<cudaGraphExec_t> before(devices.size());
  for (int rank = 0; rank < ranks.size(); ++rank) {
    const DeviceScope scope(devices[static_cast<std::size_t>(rank)]);
    cudaGraph_t graph = nullptr;
    cuda_check(cudaStreamBeginCapture(ranks.stream(rank), cudaStreamCaptureModeGlobal));
    reduce(ranks, trial, rank);
    cuda_check(cudaStreamEndCapture(ranks.stream(rank), &graph));
    cuda_check(cudaGraphInstantiate(&before[static_cast<std::size_t>(rank)], graph, 0));
    cuda_check(cudaGraphDestroy(graph));
  }
  const auto outcomes = run_ranks(RanksAre::threads, ranks.size(), [&](int rank) {
    Communicator& here = ranks.communicators[static_cast<std::size_t>(rank)];
    TuneOptions options;
    options.collectives = {Collective::all_reduce, Collective::reduce_scatter, Collective::all_gather, Collective::broadcast, Collective::reduce};
    options.budget_ms = 10'000;
    const TuneReport report = here.tune(options);
    expect_that(report.complete && report.kept == (rank == 0), "not complete, or not kept by rank 0");
    for (const TunedSize& size : report.sizes) expect_that(size.after.measured && here.plan_for(size.request).choice == size.after.choice, "a plan that was not measured");
    options = {};
    const TuneReport again = here.tune(options);
    expect_that(again.complete && again.took_ms < 2000, "an all-reduce takes " + std::to_string(again.took_ms) + " ms to tune");
  });
  CHECK(outcomes == all_well(ranks.size()));
  for (trial.seed = 1; trial.seed <= 20; ++trial.seed) {
    put(ranks, trial);
    for (int rank = 0; rank < ranks.size(); ++rank) {
      if (trial.seed % 2 == 0)
        cuda_check(cudaGraphLaunch(before[static_cast<std::size_t>(rank)], ranks.stream(rank)));
      else
        reduce(ranks, trial, rank);
    }
    for (int rank = 0; rank < ranks.size(); ++rank) ranks.communicators[static_cast<std::size_t>(rank)].synchronize(ranks.stream(rank));
    CAPTURE(trial.seed);
    REQUIRE(wrong_ranks(ranks, trial) == 0);
  }
  for (cudaGraphExec_t graph : before) (void)cudaGraphExecDestroy(graph);
  for (const std::size_t count : {std::size_t{1}, std::size_t{4099}, elements})
    for (const Collective collective : {Collective::all_reduce, Collective::broadcast, Collective::reduce})
      CHECK(mismatches(ranks, {.type = DataType::float32, .count = count, .seed = count, .collective = collective}) == 0);
  CHECK(plans_by_measurements(Communicator::create_local(devices, of_gpu_ranks())[0]));
  CHECK_FALSE(plans_by_measurements(Communicator::create_local({devices.rbegin(), devices.rend()}, of_gpu_ranks())[0]));
}

TEST_CASE("ranks that share a GPU are not tuned, and stay as they are", "[gpu][tune]") {
  Ranks ranks({0, 0}, of_gpu_ranks(), 1 << 16);
  CHECK_THROWS_WITH(ranks.communicators[0].tune(), ContainsSubstring("share a GPU"));
  CHECK(mismatches(ranks, {.type = DataType::float32, .count = 1031, .seed = 1}) == 0);
}
#endif
