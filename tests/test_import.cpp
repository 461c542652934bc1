#include <collectives/error.hpp>
#include <collectives/topology.hpp>
#include <cstdio>

#include "machines.hpp"
#include "test.hpp"
#include "topology/chips.hpp"
#include "topology/priors.hpp"

using namespace collectives;

namespace {

int count(const Machine& machine, NodeKind kind) {
  return static_cast<int>(
      std::count_if(machine.nodes.begin(), machine.nodes.end(), [kind](const Node& node) { return node.kind == kind; }));
}

std::vector<const Link*> links(const Machine& machine, LinkKind kind) {
  std::vector<const Link*> found;
  for (const Link& link : machine.links)
    if (link.kind == kind) found.push_back(&link);
  return found;
}

/// By CUDA's numbers.
const Peer& peer(const Machine& machine, int from, int to) {
  const auto gpus = machine.gpus();
  const Peer* found = machine.peer(gpus.at(static_cast<std::size_t>(from)), gpus.at(static_cast<std::size_t>(to)));
  REQUIRE(found);
  return *found;
}

const Node& gpu(const Machine& machine, int device) {
  return machine.nodes[static_cast<std::size_t>(machine.gpus().at(static_cast<std::size_t>(device)))];
}

std::string with(std::string text, std::string_view what, std::string_view instead) {
  const auto place = text.find(what);
  REQUIRE(place != std::string::npos);
  return text.replace(place, what.size(), instead);
}

}  // namespace

TEST_CASE("nvidia-smi's matrices of paths, writes and atomics make one machine", "[topology][import][smi]") {
  const Machine machine = test_machine("nvlink_pairs_4x.topo.txt");
  CHECK(machine.gpus().size() == 4);
  CHECK(count(machine, NodeKind::host_bridge) == 1);
  CHECK(count(machine, NodeKind::cpu) == 1);
  CHECK(count(machine, NodeKind::nvswitch) == 0);
  CHECK(peer(machine, 0, 1).path == "NV4");
  CHECK(peer(machine, 0, 1).access);
  CHECK(peer(machine, 0, 1).native_atomics);
  CHECK(peer(machine, 0, 2).path == "PHB");
  CHECK_FALSE(peer(machine, 0, 2).access);
  CHECK_THAT(peer(machine, 0, 2).reason, ContainsSubstring("kind of GPU"));
  CHECK_FALSE(peer(machine, 0, 2).remedy.empty());
  REQUIRE(links(machine, LinkKind::nvlink).size() == 4);
  CHECK(links(machine, LinkKind::nvlink)[0]->gb_per_s == 100);
}

TEST_CASE("an NVSwitch box gets an nvswitch, and network cards tell its PCIe switches", "[topology][import][smi]") {
  const Machine machine = test_machine("nvswitch_8x.topo.txt");
  CHECK(machine.gpus().size() == 8);
  CHECK(count(machine, NodeKind::nvswitch) == 1);
  CHECK(count(machine, NodeKind::pci_switch) == 4);
  CHECK(count(machine, NodeKind::host_bridge) == 4);
  // The column of NUMA nodes is blank, but the CPUs differ.
  CHECK(count(machine, NodeKind::cpu) == 2);
  CHECK(gpu(machine, 7).numa == 1);
  CHECK(links(machine, LinkKind::nvlink).size() == 16);
  CHECK(links(machine, LinkKind::nvlink)[0]->gb_per_s == 450);
  CHECK(links(machine, LinkKind::socket).size() == 2);
  CHECK(peer(machine, 0, 7).path == "NV18");
}

TEST_CASE("switches below switches have uplinks of their own", "[topology][import][smi]") {
  const Machine machine = test_machine("nested_switches_8x.topo.txt");
  CHECK(count(machine, NodeKind::pci_switch) == 6);
  CHECK(count(machine, NodeKind::host_bridge) == 2);
  CHECK(count(machine, NodeKind::cpu) == 2);
  // Eight slots, four lower and two upper uplinks, each in both directions.
  CHECK(links(machine, LinkKind::pcie).size() == 28);
  CHECK(peer(machine, 0, 3).path == "PXB");
  CHECK(peer(machine, 0, 1).gb_per_s == Approx(usual_slot_gb_per_s(0)));
}

TEST_CASE("nvidia-smi -L beside a matrix names the GPUs, and names tell the chip", "[topology][import][smi]") {
  const std::string list = "GPU 0: NVIDIA GeForce RTX 3090 (UUID: GPU-0a)\nGPU 1: NVIDIA GeForce RTX 3090 (UUID: GPU-0b)\n";
  const Machine machine = machine_from_text(list + "\n GPU0 GPU1\nGPU0 X NV4\nGPU1 NV4 X\n");
  CHECK(machine.nodes[1].name == "NVIDIA GeForce RTX 3090");
  CHECK(machine.nodes[1].uuid == "GPU-0b");
  CHECK(machine.nodes[1].compute_capability == 86);
  CHECK(peer(machine, 0, 1).gb_per_s == Approx(4 * 12.6));
  CHECK(links(machine, LinkKind::nvlink)[0]->gb_per_s == Approx(56.25));
}

TEST_CASE("a chip is told by a whole name", "[topology][import]") {
  const auto [name, chip] = GENERATE(table<const char*, int>({{"NVIDIA H100 80GB HBM3", 90},
                                                              {"NVIDIA A100-SXM4-80GB", 80},
                                                              {"NVIDIA A10", 86},
                                                              {"NVIDIA A10G", 86},
                                                              {"NVIDIA RTX A1000", 86},
                                                              {"NVIDIA RTX 6000 Ada Generation", 89},
                                                              {"NVIDIA RTX PRO 6000 Blackwell Server Edition", 120},
                                                              {"NVIDIA GeForce RTX 5060 Ti", 120},
                                                              {"NVIDIA L40S", 89},
                                                              {"NVIDIA L4", 89},
                                                              {"Tesla V100-SXM3-32GB-H", 70},
                                                              {"Tesla P100-SXM2-16GB", 60},
                                                              {"Quadro RTX 4000", 0},
                                                              {"NVIDIA A1000", 0},
                                                              {"Some GPU", 0},
                                                              {"", 0}}));
  CAPTURE(name);
  CHECK(chip_named(name) == chip);
}

TEST_CASE("a status matrix alone still gives slots to route over", "[topology][import][smi]") {
  const Machine machine = machine_from_text("$ nvidia-smi topo -p2p r\n GPU0 GPU1\n GPU0 X CNS\n GPU1 OK X\n");
  CHECK_FALSE(peer(machine, 0, 1).access);
  CHECK(peer(machine, 1, 0).access);
  CHECK(peer(machine, 1, 0).path.empty());
  CHECK(machine.links.size() == 6);
}

TEST_CASE("what -p2p n refuses may still go over PCIe", "[topology][import][smi]") {
  const std::string statuses = "\n GPU0 GPU1\n GPU0 X NS\n GPU1 NS X\n";
  CHECK(peer(machine_from_text("nvidia-smi topo -p2p n" + statuses), 0, 1).access);
  CHECK_FALSE(peer(machine_from_text("nvidia-smi topo -p2p p" + statuses), 0, 1).access);
}

TEST_CASE("the bandwidth test gives access, rates and latencies of what it measured", "[topology][import][p2p_test]") {
  const Machine machine = test_machine("one_refused_3x.p2p_test.txt");
  REQUIRE(machine.gpus().size() == 3);
  CHECK(machine.nodes[0].name == "Some GPU, 12 GB");
  CHECK(machine.nodes[1].pci == "0000:41:00.0");
  // Rows send: 13.2 is from 1 to 2.
  CHECK(peer(machine, 1, 2) == Peer{1, 2, true, false, false, "", 13.2, 1.3, Evidence::measured, "", ""});
  CHECK(peer(machine, 2, 1).gb_per_s == 13.3);
  // Without access, the way through host memory is what was measured.
  CHECK_FALSE(peer(machine, 0, 1).access);
  CHECK(peer(machine, 0, 1).gb_per_s == 10.6);
  CHECK(peer(machine, 0, 1).latency_us == 14.2);
  CHECK(peer(machine, 0, 1).reason == "CUDA refuses");
  CHECK_THAT(peer(machine, 0, 1).remedy, ContainsSubstring("nvidia-smi topo -p2p r"));
  CHECK(count(machine, NodeKind::nvswitch) == 0);
  CHECK(links(machine, LinkKind::pcie)[0]->gb_per_s == 10.7);
}

TEST_CASE("measurements go onto a machine by address, not by index", "[topology][import][p2p_test]") {
  Machine machine = test_machine("pcie_2x.json");
  machine.nodes[0].pci = "0000:c1:00.0";
  machine.nodes[1].pci = "0000:41:00.0";
  const std::string text =
      "Device: 0, A, pciBusID: 41, pciDeviceID: 0, pciDomainID:0\nDevice: 1, B, pciBusID: c1, pciDeviceID: 0, pciDomainID:0\n"
      "Unidirectional P2P=Enabled Bandwidth Matrix (GB/s)\n D\\D 0 1\n 0 900 20.5\n 1 21.5 900\n";
  add_measurements(machine, text);
  CHECK(machine.peer(1, 0)->gb_per_s == 20.5);
  CHECK(machine.peer(0, 1)->gb_per_s == 21.5);
  // What was proved before stays proved.
  CHECK(machine.peer(0, 1)->evidence == Evidence::verified);
  const Machine before = machine;
  machine.nodes[1].pci = "0000:42:00.0";
  CHECK_THROWS_WITH(add_measurements(machine, text), ContainsSubstring("it has none at 0000:41:00.0"));
  machine.nodes[1].pci = "0000:41:00.0";
  CHECK(machine == before);
}

TEST_CASE("one file may hold nvidia-smi's matrix and the bandwidth test", "[topology][import]") {
  const Machine machine = machine_from_text(
      "GPU0 GPU1\nGPU0 X PIX\nGPU1 PIX X\n\nP2P Connectivity Matrix\n D\\D 0 1\n 0 1 0\n 1 1 1\n"
      "Unidirectional P2P=Enabled Bandwidth\n D\\D 0 1\n 0 900 9.5\n 1 12.5 900\n");
  CHECK(peer(machine, 1, 0) == Peer{1, 0, true, false, false, "PIX", 12.5, 0.7, Evidence::measured, "", ""});
  CHECK_FALSE(peer(machine, 0, 1).access);
  CHECK(peer(machine, 0, 1).gb_per_s == 9.5);
}

TEST_CASE("a matrix has the addresses of the bandwidth test below it, and can be written for NCCL", "[topology][import][nccl]") {
  const std::string matrix = "\tGPU0\tGPU1\tGPU2\nGPU0\t X \tPHB\tSYS\nGPU1\tPHB\t X \tSYS\nGPU2\tSYS\tSYS\t X \n";
  CHECK_THROWS_WITH(to_nccl_xml(machine_from_text(matrix)), ContainsSubstring("expected a PCI address for GPU0,"));
  const Machine machine = machine_from_text(matrix + machine_text("one_refused_3x.p2p_test.txt"));
  CHECK(gpu(machine, 1).pci == "0000:41:00.0");
  const Machine back = machine_from_text(to_nccl_xml(machine));
  CHECK(gpu(back, 2).pci == "0000:c1:00.0");
  CHECK(peer(back, 0, 1).path == "PHB");
  // Two devices at one address are no machine.
  CHECK_THROWS_WITH(machine_from_text("GPU0 GPU1\nGPU0 X PIX\nGPU1 PIX X\nDevice: 0, A, pciBusID: 41, pciDeviceID: 0, pciDomainID:0\nDevice: 1, B, pciBusID: 41, pciDeviceID: 0, pciDomainID:0\n"
                                      "Unidirectional P2P=Enabled Bandwidth\n D\\D 0 1\n 0 900 9.5\n 1 12.5 900\n"),
                    ContainsSubstring("line "));
}

TEST_CASE("links that no slot could carry are NVLinks", "[topology][import][p2p_test]") {
  const std::string rates = "Unidirectional P2P=Enabled Bandwidth\n D\\D 0 1 2\n 0 1 270 270\n 1 270 1 270\n 2 270 270 1\n";
  CHECK(count(machine_from_text(rates), NodeKind::nvswitch) == 1);
  const std::string pair =
      "Unidirectional P2P=Enabled Bandwidth\n D\\D 0 1 2\n 0 1 48 12\n 1 48 1 12\n 2 12 12 1\n"
      "Unidirectional P2P=Disabled Bandwidth\n D\\D 0 1 2\n 0 1 10 10\n 1 10 1 10\n 2 10 10 1\n";
  const Machine machine = machine_from_text(pair);
  CHECK(count(machine, NodeKind::nvswitch) == 0);
  REQUIRE(links(machine, LinkKind::nvlink).size() == 2);
  CHECK(links(machine, LinkKind::nvlink)[0]->gb_per_s == 48);
  CHECK(peer(machine, 0, 1).path == "NV2");
  CHECK(peer(machine, 0, 2).path.empty());
}

TEST_CASE("NCCL's XML gives the tree, NVSwitches and device numbers", "[topology][import][nccl]") {
  const Machine machine = test_machine("nvswitch_4x.nccl.xml");
  REQUIRE(machine.gpus().size() == 4);
  CHECK(gpu(machine, 0).pci == "0000:1a:00.0");
  CHECK(gpu(machine, 0).compute_capability == 90);
  CHECK(gpu(machine, 0).pcie_generation == 5);
  CHECK(gpu(machine, 3).numa == 1);
  CHECK(count(machine, NodeKind::nvswitch) == 1);
  CHECK(count(machine, NodeKind::pci_switch) == 2);
  CHECK(peer(machine, 0, 3).path == "NV18");
  CHECK(links(machine, LinkKind::nvlink).size() == 8);
  CHECK(links(machine, LinkKind::nvlink)[0]->gb_per_s == 450);
  for (const Link* link : links(machine, LinkKind::pcie)) CHECK(link->gb_per_s == Approx(3.938 * 0.89 * 16));
}

TEST_CASE("NCCL's spellings of speeds, switches and far ends are all read", "[topology][import][nccl]") {
  const std::string text = machine_text("nvswitch_4x.nccl.xml");
  const auto slot = [&](const char* speed) {
    return gpu(machine_from_text(with(text, "busid=\"0000:1A:00.0\" class=\"0x030200\" link_speed=\"32.0 GT/s PCIe\"",
                                      std::string("busid=\"0000:1A:00.0\" class=\"0x030200\" link_speed=\"") + speed + "\"")),
               0)
        .pcie_generation;
  };
  CHECK(slot("8 GT/s") == 3);
  CHECK(slot("16.0 GT/s PCIe") == 4);
  CHECK(slot("16.0 GT/s PCIe/s") == 4);
  CHECK(slot("8GT/s") == 3);
  CHECK(slot("2.5 GT/s") == 1);
  CHECK(slot("Unknown") == 0);
  // A GPU linked to itself, and a far end that a virtual machine hides.
  std::string odd =
      with(text, "target=\"0000:05:00.0\" count=\"10\" tclass=\"0x068000\"", "target=\"0000:1a:00.0\" count=\"10\" tclass=\"0x030200\"");
  CHECK(peer(machine_from_text(odd), 0, 1).path == "NV8");
  odd = with(text, "target=\"0000:05:00.0\"", "target=\"fffffff:ffff:ff\"");
  CHECK(peer(machine_from_text(odd), 0, 1).path == "NV18");
  CHECK_THROWS_WITH(machine_from_text(with(text, "sm=\"90\"", "sm=\"ninety\"")),
                    ContainsSubstring("line 6, column") && ContainsSubstring("sm"));
}

TEST_CASE("what is written for NCCL is the same machine when it is read", "[topology][import][nccl]") {
  const std::string file = GENERATE(as<std::string>{}, "nvswitch_8x.json", "cube_mesh_8x.json", "nvlink_pairs_4x.json",
                                    "pcie_switches_16x.json", "mixed_islands_7x.json", "chain_3x.json", "nvswitch_4x.nccl.xml");
  CAPTURE(file);
  const Machine machine = test_machine(file);
  const Machine back = machine_from_text(to_nccl_xml(machine));
  REQUIRE(back.gpus().size() == machine.gpus().size());
  for (std::size_t i = 0; i < machine.gpus().size(); ++i) {
    const int device = static_cast<int>(i);
    CHECK(gpu(back, device).pci == gpu(machine, device).pci);
    CHECK(gpu(back, device).numa == gpu(machine, device).numa);
    CHECK(gpu(back, device).compute_capability == gpu(machine, device).compute_capability);
    for (std::size_t j = 0; j < machine.gpus().size(); ++j) {
      if (i == j) continue;
      // NUMA nodes have one root there, so NODE comes back as PHB.
      const std::string path = peer(machine, device, static_cast<int>(j)).path;
      CHECK(peer(back, device, static_cast<int>(j)).path == (path == "NODE" ? "PHB" : path));
    }
  }
  CHECK(to_nccl_xml(back) == to_nccl_xml(machine_from_text(to_nccl_xml(back))));
  Machine nameless = machine;
  nameless.nodes[static_cast<std::size_t>(machine.gpus()[0])].pci.clear();
  CHECK_THROWS_WITH(to_nccl_xml(nameless), ContainsSubstring("expected a PCI address for GPU0,") && ContainsSubstring("lstopo"));
}

TEST_CASE("hwloc's XML gives switches, NUMA nodes, NVLinks and CUDA's order", "[topology][import][hwloc]") {
  const Machine machine = test_machine("bridge_3x.hwloc.xml");
  CHECK(machine.name == "Three Card Box");
  REQUIRE(machine.gpus().size() == 3);
  // CUDA counts them the other way round than NVML.
  CHECK(gpu(machine, 0).pci == "0000:81:00.0");
  CHECK(gpu(machine, 0).numa == 1);
  CHECK(gpu(machine, 0).name == "NVIDIA RTX A6000");
  CHECK(gpu(machine, 0).multiprocessors == 84);
  CHECK(gpu(machine, 0).memory_bytes == 49925312ull * 1024);
  CHECK(gpu(machine, 2).uuid == "GPU-00000000-0000-4000-8000-000000000000");
  CHECK(peer(machine, 0, 1).path == "NV4");
  CHECK(peer(machine, 0, 2).path == "SYS");
  CHECK(peer(machine, 1, 2).path == "PIX");
  CHECK(count(machine, NodeKind::pci_switch) == 1);
  CHECK(count(machine, NodeKind::host_bridge) == 2);
  CHECK(count(machine, NodeKind::cpu) == 2);
  CHECK(links(machine, LinkKind::pcie)[0]->gb_per_s == Approx(slot_gb_per_s(4, 16)));
}

TEST_CASE("errors of importers say where and what was expected", "[topology][import]") {
  const std::string topo = machine_text("nvlink_pairs_4x.topo.txt"), test = machine_text("one_refused_3x.p2p_test.txt"),
                    hwloc = machine_text("bridge_3x.hwloc.xml");
  const auto [text, complaint] = GENERATE_COPY(table<std::string, const char*>({
      {"", "line 1, column 1: expected a description of a machine, found nothing"},
      {"hello\n", "line 1, column 1: expected a machine file (JSON), XML of"},
      {"GPU0 GPU1\nGPU0 X PIX\n", "line 3, column 1: expected a row for GPU1; the text ends"},
      {"GPU0 GPU1\nGPU0 X PIX\nGPU2 PIX X\n", "line 3, column 1: expected a row for GPU1, found 'GPU2'"},
      {"GPU0 GPU1\nGPU0 X\nGPU1 PIX X\n", "line 2, column 7: expected 2 cells in the row for GPU0, found 1"},
      {"GPU0 GPU1\nGPU0 X FAR\nGPU1 PIX X\n", "line 2, column 8: expected NV and a number"},
      {"GPU0 GPU1\nGPU0 PIX X\nGPU1 PIX X\n", "line 2, column 6: expected X, found 'PIX'"},
      {"GPU0 GPU1\nGPU0 X PIX\nGPU1 OK X\n", "line 3, column 6: expected NV and a number, PIX, PXB, PHB, NODE or SYS, found 'OK'"},
      {"GPU0 GPU1\nGPU0 X NV0\nGPU1 NV0 X\n", "found 'NV0'"},
      {"GPU0 GPU0\nGPU0 X PIX\nGPU0 PIX X\n", "line 1, column 6: expected GPUs in ascending order"},
      {topo + "GPU0 GPU1\nGPU0 X OK\nGPU1 OK X\n", "expected the same GPUs in every matrix"},
      {with(test, "D\\D     0      1      2 \n     0 700", "D\\D     0      1      3 \n     0 700"), "expected column 2, found '3'"},
      {with(test, "701.00", "many"), "line 20, column 15: expected a number from 0 up, found 'many'"},
      {with(test, "Unidirectional P2P=Disabled", "Some"), "expected a heading"},
      {with(test, "Device: 1,", "Device: 7,"), "line 3, column 1: expected device 1 on this line"},
      {with(hwloc, "version=\"2.0\"", "version=\"3.0\""), "line 3, column 2: expected <topology> of hwloc's XML version 2, found '3.0'"},
      {with(hwloc, "1000000 0 0 0", "1000000 0 0"), "expected 9 values, found 8"},
      {"<system>", "expected valid XML: "},
      {"<system/>", "line 1, column 2: expected a GPU within <system>"},
      {"<graphs/>", "expected <system>, found <graphs>"},
      {"<system><cpu><pci class=\"0x030200\" busid=\"1a\"/></cpu></system>",
       "line 1, column 15: expected a PCI address for busid, found '1a'"},
  }));
  CAPTURE(text);
  CHECK_THROWS_WITH(machine_from_text(text), ContainsSubstring(complaint));
}

TEST_CASE("no path claims more than the narrowest link on it carries", "[topology][import]") {
  const auto gpu = [](const char* switch_address, const char* address, int lanes, const char* dev) {
    return std::string("<pci busid=\"") + switch_address + "\" class=\"0x060400\" link_speed=\"16.0 GT/s PCIe\" link_width=\"" + std::to_string(lanes) +
           "\"><pci busid=\"" + address + "\" class=\"0x030200\" link_speed=\"32.0 GT/s PCIe\" link_width=\"16\"><gpu dev=\"" + dev + "\" sm=\"90\"/></pci></pci>";
  };
  const Machine machine = machine_from_text("<system version=\"1\"><cpu numaid=\"0\">" + gpu("0000:10:00.0", "0000:11:00.0", 8, "0") +
                                            gpu("0000:20:00.0", "0000:21:00.0", 16, "1") + gpu("0000:30:00.0", "0000:31:00.0", 16, "2") + "</cpu></system>");
  const auto gpus = machine.gpus();
  REQUIRE(gpus.size() == 3);
  for (int a = 0; a < 3; ++a)
    for (int b = 0; b < 3; ++b) {
      if (a == b) continue;
      const Peer& peer = *machine.peer(gpus[static_cast<std::size_t>(a)], gpus[static_cast<std::size_t>(b)]);
      CHECK(peer.path == "PHB");
      CHECK(peer.gb_per_s == Approx(a == 0 || b == 0 ? 8 * 1.969 * 0.83 : 16 * 1.969 * 0.83));
    }
}
