// Real machines as their owners published them. The files lie outside this project: COLLECTIVES_MACHINE_CORPUS names their
// folder, else the one beside the project is taken if it is there.
#include <fmt/format.h>
#include <collectives/error.hpp>
#include <collectives/topology.hpp>
#include <filesystem>
#include <iostream>
#include <map>
#include <regex>

#include "machines.hpp"
#include "test.hpp"
#include "topology/graph.hpp"

using namespace collectives;
namespace fs = std::filesystem;

namespace {

/// Files that are no description of a machine, or not one that says enough, and a part of why.
const std::map<std::string, std::string> refusals = {
    {"16x-rtxpro6000-epyc9575f-4switch.pcitree.txt", "line 1, column 1: expected a machine file"},
    {"8x-rtxpro6000-dual-epyc9575f.cmdline.txt", "line 1, column 1: expected a machine file"},
    {"8x-rtxpro6000-dual-epyc9575f.numactl-H.txt", "line 1, column 1: expected a machine file"},
    {"8x-mi-xgmi.rocm-smi-showtopotype.txt", "line 5, column 8: expected X, found '0'"},
    {"6gpu-5090+5070ti+4x5060ti.connectivity.partial.tsv", "line 1, column 1: expected a machine file"},
    {"7gpu-2x4090+2x5090+a6000+2x3090.connectivity.partial.tsv", "line 1, column 1: expected a machine file"},
    {"9gpu-pro6000+4x5090+a40+a6000+5070ti+2000ada.connectivity.partial.tsv", "line 1, column 1: expected a machine file"},
    {"8x-rtxpro6000-dual-epyc9575f-2xPEX890xx.uni.txt", "line 1, column 2: expected a machine file"},
    {"8x-rtxpro6000-trpro-root+leaf-switches.uni.txt", "line 1, column 4: expected a heading"},
    {"8x-rtxpro6000-dual-epyc9575f-2xPEX890xx.bidir.txt", "line 1, column 4: expected a heading"},
    {"8x-rtxpro6000-trpro-2switch-flat.bidir.txt", "line 1, column 4: expected a heading"},
    {"8x-rtxpro6000-trpro-root+leaf-switches.bidir.txt", "line 1, column 4: expected a heading"},
    {"azure-ncv4-graph.xml", "line 1, column 2: expected <system>, found <graphs>"},
    {"hwloc-3.0dev-nvidiaDGX2.xml", "line 3, column 2: expected <topology> of hwloc's XML version 2, found '3.0'"},
};

/// GPUs where the name of a file does not begin with their number.
const std::map<std::string, int> counts = {
    {"aws-p4d-24xl-topo.xml", 8},
    {"aws-p4de-24xl-topo.xml", 8},
    {"aws-p5.48xl-topo.xml", 8},
    {"azure-ncv4-topo.xml", 4},
    {"azure-ndv2-topo.xml", 8},
    {"azure-ndv4-topo.xml", 8},
    {"rccl-topo_16p1h.xml", 16},
    {"rccl-topo_3p_pcie.xml", 3},
    {"rccl-topo_4p3l.xml", 4},
    {"rccl-topo_8p_pcie.xml", 8},
    {"hwloc-2.14.0-nvidiaDGX2.xml", 16},
    {"hwloc-2.9.3-24em64t-2n6c2t-pci.xml", 3},
    {"hwloc-2.9.3-power8gpudistances.xml", 4},
    {"hwloc-2.9.3-32em64t-2n8c2t-pci-normalio.xml", 3},
    {"hwloc-2.9.3-32em64t-2n8c2t-pci-wholeio.xml", 3},
};

int expected_gpus(const std::string& file) {
  if (const auto found = counts.find(file); found != counts.end()) return found->second;
  return std::stoi(file);
}

/// Files whose flags, by what SOURCES.tsv says of them, are wrong or partial are read for what they say all the same.
void check_machine(const std::string& file, const Machine& machine) {
  CAPTURE(file);
  CHECK_NOTHROW(validate(machine));
  CHECK(machine_from_json(to_json(machine)) == machine);
  const auto gpus = machine.gpus();
  CHECK(static_cast<int>(gpus.size()) == expected_gpus(file));
  for (const int from : gpus)
    for (const int to : gpus) {
      if (from == to) continue;
      const Peer* peer = machine.peer(from, to);
      REQUIRE(peer);
      CHECK((peer->access ? peer->gb_per_s > 0 : !peer->reason.empty() && !peer->remedy.empty()));
    }
  for (const Link& link : machine.links) CHECK(link.gb_per_s > 0);
}

struct Corpus {
  std::map<std::string, Machine> machines;
  std::map<std::string, std::string> refused;
};

Corpus read_corpus() {
  Corpus read;
  for (const auto& entry : fs::recursive_directory_iterator(corpus_folder())) {
    const std::string file = entry.path().filename();
    if (!entry.is_regular_file() || file == "README.md" || file == "SOURCES.tsv") continue;
    try {
      read.machines.emplace(file, read_machine_file(entry.path()));
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::invalid_argument);
      read.refused.emplace(file, error.what());
    }
  }
  return read;
}

bool skipped() {
  if (fs::is_directory(corpus_folder())) return false;
  WARN("SKIPPED: no corpus of machines at " << corpus_folder() << "; COLLECTIVES_MACHINE_CORPUS names its folder");
  return true;
}

}  // namespace

TEST_CASE("every published description gives a valid machine or an error with line and reason", "[topology][corpus]") {
  if (skipped()) return;
  const Corpus read = read_corpus();
  std::cout << fmt::format("corpus: {} files, {} imported, {} refused\n", read.machines.size() + read.refused.size(), read.machines.size(),
                           read.refused.size());
  for (const auto& [file, machine] : read.machines) check_machine(file, machine);
  for (const auto& [file, reason] : read.refused) {
    CAPTURE(file, reason);
    std::cout << fmt::format("  refused {}: {}\n", file, reason.substr(std::min(reason.find("line "), reason.size())));
    CHECK(std::regex_search(reason, std::regex(": line [0-9]+, column [0-9]+: expected ")));
    const auto known = refusals.find(file);
    REQUIRE(known != refusals.end());
    CHECK_THAT(reason, ContainsSubstring(known->second));
  }
  for (const auto& [file, reason] : refusals) {
    CAPTURE(file);
    CHECK((read.refused.contains(file) || !fs::exists(corpus_folder() / "topo_m")));
  }
}

TEST_CASE("what is odd in published descriptions is read as it is meant", "[topology][corpus]") {
  if (skipped()) return;
  const Corpus read = read_corpus();
  const auto machine = [&](const char* file) -> const Machine& {
    CAPTURE(file);
    REQUIRE(read.machines.contains(file));
    return read.machines.at(file);
  };
  const auto nodes = [](const Machine& machine, NodeKind kind) {
    return std::count_if(machine.nodes.begin(), machine.nodes.end(), [kind](const Node& node) { return node.kind == kind; });
  };
  const auto path = [](const Machine& machine, int from, int to) {
    const auto gpus = machine.gpus();
    return machine.peer(gpus[static_cast<std::size_t>(from)], gpus[static_cast<std::size_t>(to)])->path;
  };
  // NVSwitch boxes, from each kind of description that shows one.
  for (const char* file : {"8x-h100-sxm-NV18-2numa.txt", "8x-a100-sxm-NV12-10NIC.txt", "4x-gb200-NV18-grace.txt",
                           "hwloc-2.14.0-nvidiaDGX2.xml", "8x-h100-sxm-nvlink4.uni.txt"})
    CHECK(nodes(machine(file), NodeKind::nvswitch) == 1);
  CHECK(path(machine("hwloc-2.14.0-nvidiaDGX2.xml"), 0, 15) == "NV6");
  CHECK(nodes(machine("8x-v100-sxm2-hybrid-cube-mesh.txt"), NodeKind::nvswitch) == 0);
  // Network cards tell which GPUs of an NVSwitch box share a switch.
  CHECK(nodes(machine("8x-a100-sxm-NV12-10NIC.txt"), NodeKind::pci_switch) == 4);
  // Escapes of a terminal, and two GPUs to each of four switches.
  CHECK(nodes(machine("8x-rtxpro6000-dual-epyc9575f-2xPEX890xx-4VS.txt"), NodeKind::pci_switch) == 4);
  CHECK(path(machine("8x-rtxpro6000-dual-epyc9575f-2xPEX890xx-4VS.txt"), 0, 2) == "NODE");
  // A GPU that is said to be linked to itself.
  CHECK(path(machine("azure-ncv4-topo.xml"), 0, 1) == "SYS");
  CHECK(path(machine("aws-p4d-24xl-topo.xml"), 0, 1) == "PIX");
  CHECK(path(machine("aws-p4d-24xl-topo.xml"), 0, 2) == "PHB");
  CHECK(path(machine("hwloc-2.9.3-power8gpudistances.xml"), 0, 1) == "NV2");
  CHECK(path(machine("hwloc-2.9.3-power8gpudistances.xml"), 1, 2) == "SYS");
  // Statuses that the driver gives, and what the bandwidth test saw of CUDA.
  CHECK_FALSE(machine("2x5090-stock-GNS.txt").peers[0].access);
  CHECK(machine("3gpu-5070+2x5060ti-p2p-allOK-but-cuda-says-no.txt").peers[0].access);
  const Machine& partial = machine("3gpu-5070+2x5060ti-partial.txt");
  CHECK_FALSE(partial.peer(0, 1)->access);
  CHECK(partial.peer(1, 2)->access);
  CHECK(partial.peer(1, 2)->gb_per_s == 3.58);
  CHECK(partial.nodes[2].pci == "0000:0a:00.0");
  // Where only both directions at once were measured, half of that stands in.
  CHECK(machine("3x-3090-p2pdriver-trpro3995wx.txt").peer(0, 1)->gb_per_s == Approx(26.005));
  CHECK(machine("3x-3090-p2pdriver-trpro3995wx.txt").peer(0, 1)->evidence == Evidence::measured);
}
