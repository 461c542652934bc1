// How ranks are numbered must not matter, and in which order they stand must be worth its search.
#include "planner/rank_order.hpp"

#include <algorithm>
#include <collectives/error.hpp>
#include <filesystem>
#include <iostream>
#include <numeric>
#include <random>

#include "machines.hpp"
#include "planner/colouring.hpp"
#include "planner/cost.hpp"
#include "planner/planner.hpp"
#include "planner/standard_order.hpp"
#include "planner/verify.hpp"
#include "planner_cases.hpp"
#include "test.hpp"

using namespace collectives;

namespace {

const std::vector<AlgorithmChoice> trees = {
    {Algorithm::binary_tree}, {Algorithm::kary_tree, 3}, {Algorithm::kary_tree, 4}, {Algorithm::balanced_tree}, {Algorithm::double_tree}};

std::vector<int> natural(int ranks) {
  std::vector<int> order(static_cast<std::size_t>(ranks));
  std::iota(order.begin(), order.end(), 0);
  return order;
}

std::vector<int> devices_of(const Machine& machine) {
  std::vector<int> devices;
  for (const int gpu : machine.gpus())
    if (const int device = machine.nodes[static_cast<std::size_t>(gpu)].device; device >= 0) devices.push_back(device);
  return devices;
}

std::vector<int> shuffled(std::vector<int> values, std::mt19937& random) {
  std::shuffle(values.begin(), values.end(), random);
  return values;
}

double us_of(const Schedule& schedule, const Fabric& fabric) {
  return cost_of(schedule, fabric, Limits(fabric)).predicted_us(1 << 20, 8, general_kernels);
}

PlannerOptions usual_slots() {
  PlannerOptions options;
  options.sentinel_slot_bytes = options.flagged_slot_bytes = 1 << 24;
  return options;
}

/// Every machine that can be planned for, of the machine files and of the corpus where there is one.
std::vector<std::pair<std::string, Machine>> all_machines() {
  std::vector<std::pair<std::string, Machine>> machines;
  for (const char* file : machine_files) machines.emplace_back(file, test_machine(file));
  if (!std::filesystem::is_directory(corpus_folder())) return machines;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(corpus_folder())) {
    try {
      machines.emplace_back(entry.path().filename(), read_machine_file(entry.path()));
    } catch (const Error&) {
      continue;
    }
    const auto ranks = devices_of(machines.back().second).size();
    if (ranks < 2 || ranks > 16) machines.pop_back();
  }
  return machines;
}

/// Two sockets, their GPUs taking turns in number, and a narrow link between them.
Fabric interleaved(int ranks) {
  Fabric fabric = uniform_fabric(ranks, 50'000);
  const auto link = static_cast<int>(fabric.resources.size());
  fabric.resources.push_back({ResourceKind::socket, 0, 1, 10'000});
  fabric.resources.push_back({ResourceKind::socket, 1, 0, 10'000});
  for (int from = 0; from < ranks; ++from)
    for (int to = 0; to < ranks; ++to)
      if (from % 2 != to % 2) fabric.links[fabric.index(from, to)].route.push_back(static_cast<std::uint16_t>(link + from % 2));
  return fabric;
}

}  // namespace

TEST_CASE("how the devices of a group are listed changes no algorithm's predicted time", "[planner][rank_order][corpus][heavy]") {
  int groups = 0;
  for (const auto& [name, machine] : all_machines()) {
    const auto devices = devices_of(machine);
    std::mt19937 random(static_cast<unsigned>(devices.size()));
    const Planner listed = planner_on(machine, devices);
    for (int trial = 0; trial < 2; ++trial) {
      // Every routine is verified when its planner is made.
      const Planner other = planner_on(machine, shuffled(devices, random));
      for (const std::size_t count : {4096, 1 << 19, 1 << 27}) {
        const auto candidates = listed.explain(count, DataType::bfloat16, ReduceOp::sum).candidates,
                   others = other.explain(count, DataType::bfloat16, ReduceOp::sum).candidates;
        REQUIRE(candidates.size() == others.size());
        for (const Candidate& candidate : candidates) {
          const auto same = std::find_if(others.begin(), others.end(), [&](const Candidate& c) { return c.choice == candidate.choice; });
          REQUIRE(same != others.end());
          CAPTURE(name, trial, count, to_string(candidate.choice));
          CHECK(same->predicted_us == Approx(candidate.predicted_us).epsilon(1e-9));
        }
      }
      ++groups;
    }
  }
  std::cout << "listed in another order: " << groups << " groups planned for alike\n";
}

TEST_CASE("of a machine's equal pairs of sockets every one plans alike", "[planner][rank_order]") {
  const Machine machine = test_machine("two_sockets_8x.json");
  const auto times = [&](const std::vector<int>& devices) {
    const Planner planner = planner_on(machine, devices);
    std::vector<double> us;
    for (const AlgorithmChoice choice : trees) us.push_back(planner.routine(choice).cost.predicted_us(1 << 20, 8, general_kernels));
    return us;
  };
  const auto first = times({0, 1, 4, 5});
  for (const auto& devices : {std::vector{0, 4, 1, 5}, {5, 0, 1, 4}, {2, 3, 6, 7}, {7, 2, 6, 3}}) {
    const auto us = times(devices);
    for (std::size_t i = 0; i < us.size(); ++i) CHECK(us[i] == Approx(first[i]));
  }
}

TEST_CASE("trees over ranks in a bad numeric order cost no more than over a good one, and less than by number", "[planner][rank_order]") {
  const int ranks = GENERATE(4, 6, 7, 8, 12, 16);
  const Fabric fabric = interleaved(ranks);
  std::vector<int> good;
  for (int rank = 0; rank < ranks; ++rank) good.push_back(2 * rank < ranks + ranks % 2 ? 2 * rank : 2 * (rank - (ranks + 1) / 2) + 1);
  const Planner planner(fabric, usual_slots());
  for (const AlgorithmChoice choice : trees) {
    CAPTURE(ranks, to_string(choice));
    const Schedule by_number = build_schedule(choice, ranks);
    const double us = us_of(planner.routine(choice).schedule, fabric);
    CHECK(us <= us_of(by_number, fabric) * (1 + 1e-9));
    CHECK(us <= us_of(placed(by_number, good), fabric) * (1 + 1e-9));
    if (ranks == 8 && choice.algorithm != Algorithm::kary_tree) CHECK(us < 0.8 * us_of(by_number, fabric));
  }
}

TEST_CASE("where no more than six ranks may move, their order is the best of all", "[planner][rank_order]") {
  const auto seed = GENERATE(take(6, random(0u, 1u << 30)));
  std::mt19937 random(seed);
  const int ranks = 3 + static_cast<int>(random() % 4), fixed = static_cast<int>(random() % 2);
  Fabric fabric = uniform_fabric(ranks, 50'000);
  for (FabricLink& link : fabric.links) link.mb_per_s = 100 + random() % 20'000, link.latency_ns = random() % 5000;
  for (const AlgorithmChoice choice : trees) {
    const Schedule positions = build_schedule(choice, ranks);
    auto order = natural(ranks);
    double best = us_of(positions, fabric);
    while (std::next_permutation(order.begin() + fixed, order.end())) best = std::min(best, us_of(placed(positions, order), fabric));
    const auto found = rank_order(positions, fabric, Limits(fabric), fixed);
    CAPTURE(seed, ranks, fixed, to_string(choice));
    CHECK(us_of(placed(positions, found), fabric) == Approx(best));
    CHECK((fixed == 0 || found[0] == 0));
  }
}

TEST_CASE("ranks that are all alike keep their natural order", "[planner][rank_order]") {
  const int ranks = GENERATE(2, 3, 6, 9, 16);
  const Fabric fabric = uniform_fabric(ranks);
  CHECK(standard_order(fabric) == natural(ranks));
  const Planner planner(fabric, usual_slots());
  for (const AlgorithmChoice choice : trees) CHECK(planner.routine(choice).schedule.rounds == build_schedule(choice, ranks).rounds);
  const int root = ranks - 1;
  auto rotated = natural(ranks);
  std::rotate(rotated.begin(), rotated.begin() + root, rotated.end());
  CHECK(standard_order(fabric, root) == rotated);
}

TEST_CASE("a shuffled fabric put in its standard order is the fabric's own put in its", "[planner][rank_order]") {
  for (const char* file : machine_files) {
    const Machine machine = test_machine(file);
    const Fabric fabric = fabric_of(machine, devices_of(machine));
    const Fabric standard = reordered(fabric, standard_order(fabric));
    std::mt19937 random(7);
    for (int trial = 0; trial < 4; ++trial) {
      const Fabric other = reordered(fabric, shuffled(natural(fabric.ranks), random));
      CAPTURE(file, trial);
      const Fabric again = reordered(other, standard_order(other));
      CHECK((again.links == standard.links));
    }
  }
  CHECK_THROWS_AS(reordered(uniform_fabric(3), std::vector{0, 1}), Error);
  CHECK_THROWS_AS(standard_order(uniform_fabric(3), 3), Error);
}

TEST_CASE("broadcasts, reduces and rings of blocks follow the fabric's order and verify", "[planner][rank_order]") {
  const int ranks = GENERATE(5, 8);
  const Fabric fabric = interleaved(ranks);
  const Planner planner(fabric, usual_slots());
  for (const Collective collective : {Collective::broadcast, Collective::reduce, Collective::all_gather, Collective::reduce_scatter})
    for (const AlgorithmChoice choice : algorithms_of(collective)) {
      const int root = has_root(collective) ? ranks - 2 : 0;
      const Schedule schedule = build_schedule(collective, choice, planner.survey(), root);
      CAPTURE(ranks, name_of(collective), to_string(choice));
      CHECK(verify(lower(schedule)) == "");
      const double us = us_of(schedule, fabric), by_number = us_of(build_schedule(collective, choice, ranks, root), fabric);
      CHECK(us <= by_number * (1 + 1e-9));
      if (choice.algorithm == Algorithm::ring) CHECK(us < 0.8 * by_number);
    }
  CHECK_THROWS_AS(build_schedule(Collective::gather, {Algorithm::ring}, planner.survey(), 0), Error);
}

TEST_CASE("limits of one colour are interchangeable, of different ones are not", "[planner][rank_order]") {
  const Fabric fabric = interleaved(6);
  const Limits limits(fabric);
  Colouring colours(limits, std::vector<Colour>(36, 0));
  for (int rank = 1; rank < 6; ++rank) CHECK(colours.of_rank(rank) == colours.of_rank(0));
  CHECK(colours.of_limit(12) == colours.of_limit(13));
  CHECK(colours.of_limit(0) != colours.of_limit(1));
  CHECK(colours.of_limit(0) != colours.of_limit(12));
  colours.single_out(0, 1);
  CHECK(colours.of_rank(2) == colours.of_rank(4));
  CHECK(colours.of_rank(1) != colours.of_rank(2));
  CHECK(colours.of_limit(12) != colours.of_limit(13));
}
