#include <unistd.h>

#include "machines.hpp"
#include "test.hpp"
#include "trial.hpp"
#include "variable.hpp"

#if COLLECTIVES_HAS_CUDA
#include "base/cuda.hpp"
#endif

using namespace collectives;

namespace {

/// Ranks of which only some reach each other.
struct Reach {
  const char* name;
  int ranks;
  const char* refused;
};

std::vector<Reach> reaches() {
  return {{"two islands of two", 4, "0-2,0-3,1-2,1-3"}, {"a chain", 4, "0-2,0-3,1-3"},         {"a star", 4, "1-2,1-3,2-3"},
          {"one pair apart", 3, "0-2"},                 {"three and two", 5, "0-3,0-4,1-3,1-4,2-3,2-4"}, {"nobody", 4, "off"}};
}

/// Ranks of which some read what others have for them, some meet in host memory and some write.
std::vector<Reach> pulls() {
  return {{"two that read", 2, "pull:0-1"},
          {"one pair that reads", 3, "pull:0-2"},
          {"all read", 4, "pull:0-1,pull:0-2,pull:0-3,pull:1-2,pull:1-3,pull:2-3"},
          {"all three ways", 4, "pull:0-1,0-2,pull:2-3,1-3"},
          {"two islands that read", 5, "pull:0-1,pull:2-3,pull:2-4,pull:3-4,0-2,0-3,0-4,1-2,1-3,1-4"}};
}
const std::vector<const char*> all_algorithms = {"one_shot", "two_shot", "ring", "binary_tree", "kary_tree:3", "balanced_tree", "double_tree", "packed_trees"};

/// One of each shape that serves any ranks.
const std::vector<const char*> several = {"one_shot", "two_shot", "ring", "kary_tree:3", "balanced_tree"};

void try_sizes(Ranks& ranks, std::size_t largest) {
  std::uint64_t seed = 1;
  for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{31}, std::size_t{1031}, std::size_t{70'001}, largest})
    for (const DataType type : {DataType::bfloat16, DataType::int32}) {
      CAPTURE(count, name_of(type));
      CHECK(mismatches(ranks, {type, ReduceOp::sum, count, seed % 2 == 0, static_cast<int>(seed % 3), seed}) == 0);
      ++seed;
    }
}

/// The planner's choice, then those named.
void try_algorithms(const Reach& reach, const std::vector<int>& devices, Options options, std::size_t largest, const std::vector<const char*>& names = several) {
  CAPTURE(reach.name);
  const Variable refused("COLLECTIVES_P2P", reach.refused);
  std::vector<std::optional<AlgorithmChoice>> choices = {std::nullopt};
  for (const char* name : names) choices.emplace_back(parse_algorithm(name));
  for (const auto& choice : choices) {
    CAPTURE(choice ? to_string(*choice) : "the planner's choice");
    options.algorithm = choice;
    Ranks ranks(devices, options, largest * 4 + 64);
    try_sizes(ranks, largest);
  }
}

}  // namespace

namespace {

Options small_host(const Reach& reach, Wire wire) {
  Options options;
  options.backend = Backend::host;
  options.wire = wire;
  options.pool_bytes = static_cast<std::size_t>(reach.ranks) * (3u << 19);  // two pools a rank, slots of 128 KB: the largest message needs credits
  return options;
}

}  // namespace

TEST_CASE("two islands of host threads get exact results", "[comm][host][reach]") {
  const auto wire = GENERATE(Wire::flagged, Wire::sentinel);
  const Reach islands = reaches().front();
  try_algorithms(islands, counted(islands.ranks), small_host(islands, wire), 75'000, {"two_shot"});
}

TEST_CASE("ranks of which only some reach each other get exact results, on host threads", "[comm][host][reach][heavy]") {
  const Reach reach = GENERATE(from_range(reaches()));
  const auto wire = GENERATE(Wire::flagged, Wire::sentinel);
  CAPTURE(name_of(wire));
  try_algorithms(reach, counted(reach.ranks), small_host(reach, wire), 150'000);
}

TEST_CASE("ranks that read what their peers have for them get exact results, on host threads", "[comm][host][reach]") {
  const Reach reach = pulls()[3];
  try_algorithms(reach, counted(reach.ranks), small_host(reach, Wire::flagged), 100'000, {"ring", "packed_trees"});
}

TEST_CASE("ranks that read what their peers have for them get exact results by every algorithm, on host threads", "[comm][host][reach][heavy]") {
  const Reach reach = GENERATE(from_range(pulls()));
  // Over sentinels what is small goes through host memory, by turns with what is read; integers always take flags.
  const auto wire = GENERATE(Wire::flagged, Wire::sentinel);
  CAPTURE(name_of(wire));
  auto names = all_algorithms;
  if (reach.ranks == 5) names.push_back("island");
  try_algorithms(reach, counted(reach.ranks), small_host(reach, wire), 300'000, names);
}

TEST_CASE("one way of a pair may be read where the other leads through host memory", "[comm][host][reach]") {
  Machine machine = machine_of(3);
  for (Peer& peer : machine.peers) {
    peer.access = (peer.from != 1 || peer.to != 2) && (peer.from != 2 || peer.to != 1);
    peer.pulled = peer.from == 2 && peer.to == 1;
  }
  char file[] = "/tmp/collectives-machine-XXXXXX";
  ::close(::mkstemp(file));
  std::ofstream(file) << to_json(machine);
  const Variable described("COLLECTIVES_MACHINE", file);
  try_algorithms({"one way read", 3, "auto"}, counted(3), small_host({"", 3, ""}, Wire::flagged), 100'000, {"two_shot", "ring", "balanced_tree"});
  std::filesystem::remove(file);
}

#if COLLECTIVES_HAS_CUDA

namespace {

/// These ranks on the GPUs there are, in turn.
void try_on_gpus(const Reach& reach, const std::vector<const char*>& names = several) {
  const int gpus = cuda_device_count();
  REQUIRE(gpus > 0);
  std::vector<int> devices;
  for (int rank = 0; rank < reach.ranks; ++rank) devices.push_back(rank % gpus);
  Options options;
  options.pool_bytes = static_cast<std::size_t>((reach.ranks + gpus - 1) / gpus) * (8u << 20);  // filling pinned pools takes longer than the calls
  try_algorithms(reach, devices, options, 1'000'000, names);
}

}  // namespace

TEST_CASE("ranks that read what their peers have for them get exact results, on GPUs", "[gpu][reach]") {
  try_on_gpus(GENERATE(from_range(pulls())), all_algorithms);
}

TEST_CASE("ranks of which only some reach each other get exact results, on GPUs", "[gpu][reach]") {
  try_on_gpus(GENERATE(from_range(reaches())));
}

TEST_CASE("GPUs of which none reaches another sum in crews, in turns with shorter calls and other collectives", "[gpu][reach]") {
  const int gpus = cuda_device_count();
  REQUIRE(gpus > 0);
  const int count = GENERATE(2, 3, 4, 8);
  const char* algorithm = GENERATE("one_shot", "two_shot");
  const Variable off("COLLECTIVES_P2P", "off");
  std::vector<int> devices;
  for (int rank = 0; rank < count; ++rank) devices.push_back(rank % gpus);
  Options options;
  options.algorithm = parse_algorithm(algorithm);
  options.wire = Wire::flagged;  // at any size
  options.first_epoch = 0xfffffff0u;
  options.pool_bytes = static_cast<std::size_t>((count + gpus - 1) / gpus) * (8u << 20);
  constexpr std::size_t largest = 4'400'003;
  Ranks ranks(devices, options, largest * 4 + 64);
  const Plan plan = ranks.communicators[0].plan_for(largest, DataType::bfloat16, ReduceOp::sum);
  const int rounds = plan.choice.algorithm == Algorithm::one_shot ? 2 : 3;
  CHECK(plan.crews == (count == 2 || count * rounds > max_ranks ? 1 : rounds));
  std::uint64_t seed = 1;
  for (int turn = 0; turn < 3; ++turn)
    for (const std::size_t elements : {std::size_t{1}, std::size_t{1031}, std::size_t{70'001}, largest, std::size_t{31}, std::size_t{400'000}}) {
      const DataType type = seed % 3 == 0 ? DataType::float32 : seed % 3 == 1 ? DataType::bfloat16 : DataType::int32;
      CAPTURE(count, algorithm, elements, name_of(type), seed);
      REQUIRE(mismatches(ranks, {type, ReduceOp::sum, elements, seed % 2 == 0, static_cast<int>(seed % 3), seed}) == 0);
      REQUIRE(mismatches(ranks, {.type = type, .count = elements / 8 + 1, .seed = seed, .collective = seed % 2 == 0 ? Collective::all_gather : Collective::all_to_all}) == 0);
      ++seed;
    }
}

#endif
