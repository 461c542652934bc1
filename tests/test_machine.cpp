#include <collectives/error.hpp>
#include <collectives/topology.hpp>
#include <functional>
#include <limits>

#include "machines.hpp"
#include "test.hpp"
#include "topology/graph.hpp"

using namespace collectives;

namespace {

/// Two GPUs and a NUMA node, all well.
Machine small_machine() {
  Machine machine;
  for (int device = 0; device < 2; ++device) {
    Node gpu;
    gpu.name = "Some GPU";
    gpu.pci = device == 0 ? "0000:01:00.0" : "0000:02:00.0";
    gpu.uuid = device == 0 ? "GPU-a" : "GPU-b";
    gpu.device = device;
    gpu.numa = 0;
    machine.nodes.push_back(gpu);
  }
  Node cpu;
  cpu.kind = NodeKind::cpu;
  cpu.numa = 0;
  machine.nodes.push_back(cpu);
  for (const auto& [from, to] : {std::pair{0, 1}, std::pair{1, 0}}) {
    Peer peer;
    peer.from = from;
    peer.to = to;
    peer.access = true;
    peer.path = "PIX";
    machine.peers.push_back(peer);
    Link link;
    link.from = from;
    link.to = to;
    machine.links.push_back(link);
  }
  return machine;
}

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

}  // namespace

TEST_CASE("GPUs come in the order of their CUDA ordinals, those that CUDA cannot see last", "[topology][graph]") {
  Machine machine = small_machine();
  machine.nodes[0].device = -1;
  machine.nodes[1].device = 7;
  Node third = machine.nodes[0];
  third.device = 3;
  machine.nodes.push_back(third);
  CHECK(machine.gpus() == std::vector<int>{3, 1, 0});
}

TEST_CASE("a peer is found by its ordered pair", "[topology][graph]") {
  Machine machine = small_machine();
  machine.peers[1].path = "SYS";
  REQUIRE(machine.peer(1, 0));
  CHECK(machine.peer(1, 0)->path == "SYS");
  CHECK(machine.peer(0, 1)->path == "PIX");
  CHECK(machine.peer(0, 2) == nullptr);
}

TEST_CASE("a good machine is valid and every fault in it is named", "[topology][graph]") {
  Machine machine = small_machine();
  CHECK_NOTHROW(validate(machine));

  using Break = void (*)(Machine&);
  const auto [change, complaint] = GENERATE(table<Break, const char*>({
      {[](Machine& m) { m.nodes[1].kind = static_cast<NodeKind>(9); }, "node 1: its kind"},
      {[](Machine& m) { m.nodes[1].device = 0; }, "node 1: another GPU is device 0"},
      {[](Machine& m) { m.nodes[1].device = -2; }, "node 1: device"},
      {[](Machine& m) { m.nodes[2].device = 2; }, "node 2: only a GPU"},
      {[](Machine& m) { m.nodes[1].numa = -2; }, "node 1: numa"},
      {[](Machine& m) { m.nodes.push_back(m.nodes[2]); }, "node 3: another cpu node is NUMA node 0"},
      {[](Machine& m) { m.nodes[0].compute_capability = -1; }, "node 0: compute_capability"},
      {[](Machine& m) { m.nodes[0].multiprocessors = -1; }, "node 0: multiprocessors"},
      {[](Machine& m) { m.nodes[1].pci = m.nodes[0].pci; }, "node 1: another node has the PCI address"},
      {[](Machine& m) { m.nodes[1].uuid = m.nodes[0].uuid; }, "node 1: another node has the same uuid"},
      {[](Machine& m) { m.nodes[0].pci = "01:00.0"; }, "node 0: pci"},
      {[](Machine& m) { m.links[1].from = -1; }, "link 1: from is -1"},
      {[](Machine& m) { m.links[1].to = 3; }, "link 1: to is 3"},
      {[](Machine& m) { m.links[1].to = 1; }, "link 1: it goes from node 1 to itself"},
      {[](Machine& m) { m.links[1].kind = static_cast<LinkKind>(4); }, "link 1: its kind"},
      {[](Machine& m) { m.links[1].evidence = static_cast<Evidence>(3); }, "link 1: its kind or evidence"},
      {[](Machine& m) { m.links[1].gb_per_s = -1; }, "link 1: gb_per_s"},
      {[](Machine& m) { m.links[1].latency_us = not_a_number; }, "link 1: latency_us"},
      {[](Machine& m) { m.links.push_back(m.links[0]); }, "link 2: another link"},
      {[](Machine& m) { m.peers[1].to = 2; }, "peer 1: node 2 is not a GPU"},
      {[](Machine& m) { m.peers[1].to = 1; }, "peer 1: it goes"},
      {[](Machine& m) { m.peers[1].from = 99; }, "peer 1: from is 99"},
      {[](Machine& m) { m.peers[1].gb_per_s = infinity; }, "peer 1: gb_per_s"},
      {[](Machine& m) { m.peers[1].latency_us = -0.5; }, "peer 1: latency_us"},
      {[](Machine& m) { m.peers[1].evidence = static_cast<Evidence>(3); }, "peer 1: its evidence"},
      {[](Machine& m) { m.peers.push_back(m.peers[0]); }, "peer 2: another entry"},
      {[](Machine& m) { m.nodes.resize(4097, Node{.kind = NodeKind::pci_switch, .name = {}, .pci = {}, .uuid = {}}); }, "at most 4096"},
  }));
  CAPTURE(complaint);
  change(machine);
  CHECK_THROWS_WITH(validate(machine), ContainsSubstring(complaint));
}

TEST_CASE("links of two kinds may join the same nodes", "[topology][graph]") {
  Machine machine = small_machine();
  machine.links.push_back(machine.links[0]);
  machine.links.back().kind = LinkKind::nvlink;
  CHECK_NOTHROW(validate(machine));
}

TEST_CASE("a PCI address has one spelling", "[topology][graph]") {
  CHECK(pci_address(0, 0x1b, 0, 0) == "0000:1b:00.0");
  CHECK(pci_address(0x10000, 0xff, 0x1f, 7) == "10000:ff:1f.7");
  CHECK(pci_address(0xffffffff, 0, 0, 0) == "ffffffff:00:00.0");
  for (const char* good : {"0000:1b:00.0", "10000:ff:1f.7", "ffffffff:00:00.0"}) {
    CAPTURE(good);
    CHECK(is_pci_address(good));
  }
  for (const char* bad : {"", "00:00.0", "00000000:1b:00.0", "0000:1B:00.0", "0000:1b:00", "0000:1b:00.0 ", "000:1b:00.0",
                          "100000000:1b:00.0", "0000-1b:00.0", "0000:1b:00,0", "00g0:1b:00.0"}) {
    CAPTURE(bad);
    CHECK_FALSE(is_pci_address(bad));
  }
}

TEST_CASE("the peer table shows path, rate and evidence and explains them", "[topology][table]") {
  const std::string table = peer_table(test_machine("nvlink_pairs_4x.json"));
  CAPTURE(table);
  CHECK(table.substr(0, table.find('\n')) == "           GPU0       GPU1       GPU2       GPU3");
  CHECK_THAT(table, ContainsSubstring("GPU0          X  NV4 50.5m     PHB ?c     PHB ?c\n"));
  CHECK_THAT(table, ContainsSubstring("GPU2 = NVIDIA GeForce RTX 3090, 0000:41:00.0, NUMA 0\n"));
  CHECK_THAT(table, ContainsSubstring("c: claimed") && ContainsSubstring("m: measured") && !ContainsSubstring("v: verified"));
  CHECK_THAT(table, ContainsSubstring("PHB: through a CPU's PCIe host bridge\n") && ContainsSubstring("NV4: that many NVLinks\n"));
}

TEST_CASE("the peer table gives the reason why there is no access, once for all pairs", "[topology][table]") {
  const std::string table = peer_table(test_machine("pcie_no_peers_8x.json"));
  CAPTURE(table);
  CHECK_THAT(table, ContainsSubstring("GPU0        X  NODE --") && ContainsSubstring("SYS --"));
  CHECK_THAT(table, ContainsSubstring("no peer access: the driver does not allow it for this kind of GPU; what may help: ") && ContainsSubstring(" (GPU0>GPU1, ") &&
                        ContainsSubstring(" and 50 more)"));
  CHECK_THAT(table, !ContainsSubstring("GB/s of one flow"));
}

TEST_CASE("the peer table says what may help", "[topology][table]") {
  CHECK_THAT(
      peer_table(test_machine("nvlink_pairs_4x.topo.txt")),
      ContainsSubstring("no peer access: the driver does not allow it for this kind of GPU; what may help: nothing with NVIDIA's own driver"));
}

TEST_CASE("the peer table without a GPU is a sentence", "[topology][table]") {
  Machine machine = small_machine();
  machine.nodes.erase(machine.nodes.begin(), machine.nodes.begin() + 2);
  CHECK(peer_table(machine) == "No GPU found; 1 NUMA node. Ranks run on the CPUs.\n");
  CHECK(peer_table(Machine{}) == "No GPU found; 0 NUMA nodes. Ranks run on the CPUs.\n");
}

TEST_CASE("the peer table names what it does not know and lets no name steer the terminal", "[topology][table]") {
  Machine machine = small_machine();
  machine.nodes[0].name = "evil\x1b[2J\n";
  machine.nodes[1].device = -1;
  machine.peers.clear();
  const std::string table = peer_table(machine);
  CAPTURE(table);
  CHECK(table.find('\x1b') == std::string::npos);
  CHECK_THAT(table,
             ContainsSubstring("GPU0 = evil?[2J?, ") && ContainsSubstring("unseen0 = Some GPU") && ContainsSubstring("CUDA cannot see it"));
  CHECK_THAT(table, ContainsSubstring("not known (GPU0>unseen0, unseen0>GPU0)"));
}
