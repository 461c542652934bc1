// What `collectives` prints, word for word, on machines of every kind. After a change that is meant:
//   COLLECTIVES_UPDATE_GOLDEN=1 build/host/bin/collectives_tests "[golden]"
// writes tests/golden anew; the facts that the other tests of the command assert hold whatever is written there.
#include <filesystem>
#include <set>

#include "cli.hpp"
#include "test.hpp"

namespace {

struct Golden {
  const char* subcommand;
  const char* machine;
  cli::Words options;
};

const Golden goldens[] = {
    {"topo", "pcie_2x.json", {}},
    {"topo", "chain_3x.json", {}},
    {"topo", "chain_3x.json", {"--dot"}},
    {"topo", "one_refused_3x.p2p_test.txt", {}},
    {"topo", "bridge_3x.hwloc.xml", {}},
    {"topo", "nvlink_pairs_4x.json", {}},
    {"topo", "desktop_5x.json", {}},
    {"topo", "bridges_across_sockets_6x.json", {}},
    {"topo", "mixed_islands_7x.json", {}},
    {"topo", "nvswitch_8x.json", {}},
    {"topo", "cube_mesh_8x.json", {}},
    {"topo", "two_sockets_8x.json", {}},
    {"topo", "pcie_switches_8x.json", {}},
    {"topo", "pcie_no_peers_8x.json", {}},
    {"topo", "pcie_switches_16x.json", {}},
    {"plan", "pcie_2x.json", {"--bytes", "1M"}},
    {"plan", "chain_3x.json", {"--bytes", "16M", "--schedule"}},
    {"plan", "nvlink_pairs_4x.json", {"--bytes", "64M", "--schedule"}},
    {"plan", "mixed_islands_7x.json", {"--bytes", "16K", "--ranks", "0,1,2,3,4"}},
    {"plan", "desktop_5x.json", {"--bytes", "64M", "--schedule"}},
    {"plan", "desktop_5x.json", {"--bytes", "64M", "--collective", "broadcast", "--root", "2"}},
    {"plan", "bridges_across_sockets_6x.json", {"--bytes", "64M"}},
    {"plan", "mixed_islands_7x.json", {"--bytes", "64M"}},
    {"plan", "nvswitch_8x.json", {"--bytes", "16K"}},
    {"plan", "nvswitch_8x.json", {"--bytes", "64M", "--collective", "all_gather"}},
    {"plan", "cube_mesh_8x.json", {"--bytes", "256M"}},
    {"plan", "two_sockets_8x.json", {"--bytes", "1M"}},
    {"plan", "pcie_switches_8x.json", {"--bytes", "1M", "--type", "fp32"}},
    {"plan", "pcie_no_peers_8x.json", {"--bytes", "1M"}},
    {"plan", "pcie_switches_16x.json", {"--bytes", "64M"}},
    {"advise", "pcie_2x.json", {"--tp", "2", "--for", "vllm"}},
    {"advise", "chain_3x.json", {"--tp", "2", "--for", "torch"}},
    {"advise", "nvlink_pairs_4x.json", {"--tp", "2", "--for", "exllamav3"}},
    {"advise", "desktop_5x.json", {"--model-bytes", "60G", "--for", "exllamav3"}},
    {"advise", "bridges_across_sockets_6x.json", {"--tp", "3"}},
    {"advise", "mixed_islands_7x.json", {"--model-bytes", "40G", "--for", "llama.cpp"}},
    {"advise", "mixed_islands_7x.json", {"--tp", "5"}},
    {"advise", "nvswitch_8x.json", {"--model-bytes", "140G", "--for", "vllm"}},
    {"advise", "nvswitch_8x.json", {"--tp", "6"}},
    {"advise", "cube_mesh_8x.json", {"--tp", "4"}},
    {"advise", "two_sockets_8x.json", {"--tp", "4", "--for", "sglang"}},
    {"advise", "pcie_switches_8x.json", {"--tp", "7"}},
    {"advise", "pcie_no_peers_8x.json", {"--tp", "2", "--for", "vllm"}},
    {"advise", "pcie_switches_16x.json", {"--tp", "8"}},
    {"advise", "pcie_switches_16x.json", {"--tp", "16"}},
};

/// plan_pcie_2x_ranks_0,1.txt
std::string file_of(const Golden& golden) {
  const std::string machine = golden.machine;
  std::string name = std::string(golden.subcommand) + "_" + machine.substr(0, machine.find('.'));
  for (const std::string& option : golden.options) name += "_" + option.substr(std::min(option.size(), option.find_first_not_of('-')));
  return name + ".txt";
}

std::filesystem::path folder() { return std::filesystem::path(TEST_PROJECT_DIR) / "tests" / "golden"; }

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

Answer answer_to(const Golden& golden) {
  cli::Words words{golden.subcommand};
  words.insert(words.end(), golden.options.begin(), golden.options.end());
  return ask_of(golden.machine, words);
}

}  // namespace

TEST_CASE("the command prints what its golden files hold", "[cli][golden]") {
  const bool update = std::getenv("COLLECTIVES_UPDATE_GOLDEN") != nullptr;
  std::set<std::string> known;
  for (const Golden& golden : goldens) {
    const std::string file = file_of(golden);
    CAPTURE(file);
    const Answer answer = answer_to(golden);
    CHECK(answer.err == "");
    CHECK(answer.exit == cli::Exit::healthy);
    CHECK(known.insert(file).second);
    if (update) std::ofstream(folder() / file, std::ios::binary) << answer.out;
    CHECK(answer.out == read(folder() / file));
  }
  for (const auto& entry : std::filesystem::directory_iterator(folder())) {
    const std::string file = entry.path().filename();
    if (update && known.count(file) == 0) std::filesystem::remove(entry.path());
    CAPTURE(file);
    CHECK((update || known.count(file) == 1));
  }
}

TEST_CASE("the command says the same twice", "[cli][golden][heavy]") {
  for (const Golden& golden : goldens) {
    CAPTURE(file_of(golden));
    CHECK(answer_to(golden).out == answer_to(golden).out);
  }
}
