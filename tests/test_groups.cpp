#include <collectives/error.hpp>
#include <collectives/groups.hpp>

#include <algorithm>

#include "machines.hpp"
#include "test.hpp"

using namespace collectives;

namespace {

std::vector<int> devices_of(const Machine& machine) {
  std::vector<int> devices;
  for (const int gpu : machine.gpus()) devices.push_back(machine.nodes[static_cast<std::size_t>(gpu)].device);
  return devices;
}

std::vector<Work> small_and_large() {
  return {{{.count = 8192, .type = DataType::bfloat16}, 100}, {{.count = std::size_t{16} << 20, .type = DataType::bfloat16}, 1}};
}

double planned_us(const Machine& machine, const std::vector<int>& devices, const std::vector<Work>& work) {
  double us = 0;
  for (const Work& each : work) us += each.times * plan_call(machine, devices, each.request).plan.predicted_us;
  return us;
}

std::size_t choose(std::size_t n, std::size_t k) {
  std::size_t result = 1;
  for (std::size_t i = 1; i <= k; ++i) result = result * (n - k + i) / i;
  return result;
}

/// Every group of `size`, by a mask a bit a device.
std::vector<std::vector<int>> all_groups(const std::vector<int>& devices, int size) {
  std::vector<std::vector<int>> groups;
  std::vector<bool> in(devices.size(), false);
  std::fill(in.begin(), in.begin() + size, true);
  do {
    groups.emplace_back();
    for (std::size_t i = 0; i < devices.size(); ++i)
      if (in[i]) groups.back().push_back(devices[i]);
  } while (std::prev_permutation(in.begin(), in.end()));
  return groups;
}

}  // namespace

TEST_CASE("the search for groups finds what planning every group finds", "[planner][groups][heavy]") {
  for (const char* name : machine_files) {
    const Machine machine = test_machine(name);
    const auto devices = devices_of(machine);
    if (devices.size() > 8) continue;
    for (int size = 2; size <= std::min<int>(4, static_cast<int>(devices.size())); ++size) {
      CAPTURE(name, size);
      const auto work = small_and_large();
      double least = 1e300, most = 0;
      for (const auto& group : all_groups(devices, size)) {
        const double us = planned_us(machine, group, work);
        least = std::min(least, us);
        most = std::max(most, us);
      }
      const GroupSearch search = search_groups(machine, devices, size, work);
      // Groups of a kind may differ a little: some trees follow the order in which ranks are counted.
      CHECK(search.groups.front().predicted_us >= Approx(least));
      CHECK(search.groups.front().predicted_us <= 1.05 * least);
      CHECK(search.groups.back().predicted_us <= Approx(most));
      CHECK(search.groups.back().predicted_us >= 0.85 * most);
    }
  }
}

TEST_CASE("every group is looked at and belongs to one kind", "[planner][groups][heavy]") {
  for (const char* name : machine_files) {
    const Machine machine = test_machine(name);
    const auto devices = devices_of(machine);
    for (int size = 2; size <= static_cast<int>(devices.size()); size += devices.size() > 8 ? 6 : 3) {
      CAPTURE(name, size);
      const GroupSearch search = search_groups(machine, devices, size, small_and_large());
      CHECK(search.looked_at == choose(devices.size(), static_cast<std::size_t>(size)));
      if (search.kinds != search.groups.size()) continue;  // not all were planned
      std::size_t alike = 0;
      for (const Group& group : search.groups) alike += group.alike;
      CHECK(alike == search.looked_at);
    }
  }
}

TEST_CASE("groups of a kind cost the same, those of eight among them", "[planner][groups]") {
  const Machine machine = test_machine("pcie_switches_16x.json");
  const auto work = small_and_large();
  // Two whole switches of one socket, of the other, and of both: the third is no such group.
  const auto cost = [&](std::vector<int> devices) { return search_groups(machine, devices, 8, work).groups.front().predicted_us; };
  const GroupSearch search = search_groups(machine, devices_of(machine), 8, work);
  CHECK(search.groups.front().devices == std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7});
  CHECK(search.groups.front().alike == 2);
  CHECK(cost({8, 9, 10, 11, 12, 13, 14, 15}) == Approx(search.groups.front().predicted_us));
  CHECK(cost({0, 1, 2, 3, 8, 9, 10, 11}) > search.groups.front().predicted_us);
}

TEST_CASE("a search keeps to the GPUs it is given, in any order", "[planner][groups]") {
  const Machine machine = test_machine("cube_mesh_8x.json");
  const GroupSearch search = search_groups(machine, {7, 1, 4, 0}, 2, small_and_large());
  CHECK(search.looked_at == 6);
  for (const Group& group : search.groups)
    for (const int device : group.devices) CHECK((device == 0 || device == 1 || device == 4 || device == 7));
  CHECK(search.groups.front().devices == search_groups(machine, {0, 1, 4, 7}, 2, small_and_large()).groups.front().devices);
}

TEST_CASE("fewer kinds may be planned, and the worst is still among them", "[planner][groups]") {
  const Machine machine = test_machine("cube_mesh_8x.json");
  const GroupSearch all = search_groups(machine, devices_of(machine), 4, small_and_large());
  const GroupSearch few = search_groups(machine, devices_of(machine), 4, small_and_large(), 3);
  CHECK(all.groups.size() == all.kinds);
  CHECK(few.groups.size() == 4);
  CHECK(few.kinds == all.kinds);
  CHECK(few.groups.front().devices == all.groups.front().devices);
}

TEST_CASE("a search for groups refuses what it cannot do", "[planner][groups]") {
  const Machine machine = test_machine("pcie_2x.json");
  CHECK_THROWS_AS(search_groups(machine, {0, 1}, 1, small_and_large()), Error);
  CHECK_THROWS_AS(search_groups(machine, {0, 1}, 3, small_and_large()), Error);
  CHECK_THROWS_AS(search_groups(machine, {0, 1}, 2, {}), Error);
  CHECK_THROWS_AS(search_groups(machine, {0, 5}, 2, small_and_large()), Error);
}
