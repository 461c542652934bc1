#include <collectives/error.hpp>
#include <random>

#include "machines.hpp"
#include "test.hpp"
#include "topology/fabric.hpp"
#include "topology/priors.hpp"

using namespace collectives;

namespace {

Fabric fabric_of_file(const char* name, const std::vector<int>& devices) { return fabric_of(test_machine(name), devices); }

Peer& entry(Machine& machine, int from, int to) { return const_cast<Peer&>(*machine.peer(from, to)); }

}  // namespace

TEST_CASE("GPUs behind NVSwitches share a port for all peers", "[topology][fabric]") {
  const Fabric fabric = fabric_of_file("nvswitch_8x.json", {0, 1, 2, 3, 4, 5, 6, 7});
  CHECK(fabric.backend == Backend::cuda);
  CHECK(fabric.ranks == 8);
  CHECK(fabric.fully_connected());
  CHECK(fabric.link(0, 7) == FabricLink{true, 370'000, 700});
  CHECK(fabric.link(7, 0) == fabric.link(0, 7));
  CHECK(fabric.port_mb_per_s == 355'200);
  CHECK(fabric.launch_ns == 2000);
  CHECK(fabric.ranks_per_device == 1);
  CHECK(fabric.multiprocessors == 132);
  // Two of them have the whole port for one flow.
  CHECK(fabric_of_file("nvswitch_8x.json", {2, 5}).port_mb_per_s == 370'000);
}

TEST_CASE("a machine's figures beat the priors", "[topology][fabric]") {
  const Fabric fabric = fabric_of_file("pcie_2x.json", {0, 1});
  CHECK(fabric.link(0, 1) == FabricLink{true, 26'300, 650});
  CHECK(fabric.port_mb_per_s == 26'300);

  Machine machine = test_machine("nvswitch_8x.json");
  entry(machine, 0, 1).gb_per_s = 400;
  CHECK(fabric_of(machine, std::vector{0, 1}).link(0, 1) == FabricLink{true, 400'000, 700});
  CHECK(fabric_of(machine, std::vector{0, 1}).link(1, 0) == FabricLink{true, 370'000, 700});
}

TEST_CASE("bridged pairs mix NVLink and the slot", "[topology][fabric]") {
  const Fabric fabric = fabric_of_file("nvlink_pairs_4x.json", {0, 1, 2, 3});
  CHECK(fabric.fully_connected());
  CHECK(fabric.link(0, 1) == FabricLink{true, 50'500, 700});
  CHECK(fabric.link(0, 2) == FabricLink{true, 13'000, 1100});
  // Two of three peers go through one slot and a CPU's root, which share it badly: 3 / (2 / 13 / 0.57).
  CHECK(fabric.port_mb_per_s == 11'115);
  // The same two GPUs of a pair alone have their bridge.
  CHECK(fabric_of_file("nvlink_pairs_4x.json", {3, 2}).port_mb_per_s == 50'500);
}

TEST_CASE("a mesh of NVLinks gives each peer its own links", "[topology][fabric]") {
  Machine machine = test_machine("nvlink_pairs_4x.json");
  for (Peer& peer : machine.peers) {
    peer.path = "NV1";
    peer.gb_per_s = 0;
  }
  const Fabric fabric = fabric_of(machine, std::vector{0, 1, 2, 3});
  CHECK(fabric.link(0, 3).mb_per_s == 12'600);
  CHECK(fabric.port_mb_per_s == 3 * 12'600);
}

TEST_CASE("GPUs that do not reach each other get the way through the host", "[topology][fabric]") {
  const Fabric fabric = fabric_of_file("pcie_no_peers_8x.json", {0, 1, 2, 3, 4, 5, 6, 7});
  CHECK_FALSE(fabric.fully_connected());
  CHECK(fabric.link(0, 1) == FabricLink{false, 19'500, 2000});
  CHECK(fabric.port_mb_per_s == 19'500);
}

TEST_CASE("a pair is direct only if access is claimed both ways", "[topology][fabric]") {
  Machine machine = test_machine("nvswitch_8x.json");
  entry(machine, 4, 2).access = false;
  entry(machine, 2, 4).gb_per_s = 370;
  const Fabric fabric = fabric_of(machine, std::vector{2, 4, 6});
  CHECK_FALSE(fabric.link(0, 1).direct);
  CHECK_FALSE(fabric.link(1, 0).direct);
  CHECK(fabric.link(0, 2).direct);
  CHECK_FALSE(fabric.fully_connected());
  // The rate of the path that is not taken says nothing.
  CHECK(fabric.link(0, 1).mb_per_s == 42'000);
}

TEST_CASE("a pair that the machine does not mention is not direct", "[topology][fabric]") {
  Machine machine = test_machine("pcie_2x.json");
  machine.peers.pop_back();
  CHECK_FALSE(fabric_of(machine, std::vector{0, 1}).link(0, 1).direct);
}

TEST_CASE("ranks that share a GPU are direct and share its ports", "[topology][fabric]") {
  const Fabric same = fabric_of_file("pcie_no_peers_8x.json", {3, 3, 3});
  CHECK(same.fully_connected());
  CHECK(same.ranks_per_device == 3);
  CHECK(same.link(0, 2) == FabricLink{true, 1'000'000, 700});
  CHECK(same.port_mb_per_s == 1'000'000);

  const Fabric mixed = fabric_of_file("nvswitch_8x.json", {0, 0, 1, 1});
  CHECK(mixed.ranks_per_device == 2);
  CHECK(mixed.link(0, 1) == FabricLink{true, 1'000'000, 700});
  CHECK(mixed.link(1, 2) == FabricLink{true, 370'000, 700});
  // Two ranks send to two each over one GPU's links: three peers in the time of four flows.
  CHECK(mixed.port_mb_per_s == 277'500);
}

TEST_CASE("the smallest GPU limits and the order of nodes does not matter", "[topology][fabric]") {
  Machine machine = test_machine("nvswitch_8x.json");
  machine.nodes[5].multiprocessors = 114;
  const Fabric before = fabric_of(machine, std::vector{5, 1});
  CHECK(before.multiprocessors == 114);
  std::swap(machine.nodes[5], machine.nodes[10]);
  const auto renamed = [](int node) { return node == 5 ? 10 : node == 10 ? 5 : node; };
  for (Link& link : machine.links) link.from = renamed(link.from), link.to = renamed(link.to);
  for (Peer& peer : machine.peers) peer.from = renamed(peer.from), peer.to = renamed(peer.to);
  std::reverse(machine.peers.begin(), machine.peers.end());
  CHECK(fabric_of(machine, std::vector{5, 1}) == before);
}

TEST_CASE("a device that is not there and a wrong number of ranks are refused", "[topology][fabric]") {
  CHECK_THROWS_WITH(fabric_of_file("pcie_2x.json", {0, 2}), ContainsSubstring("no CUDA device 2") && ContainsSubstring("2 GPUs"));
  CHECK_THROWS_WITH(fabric_of_file("pcie_2x.json", {-1}), ContainsSubstring("no CUDA device -1"));
  CHECK_THROWS_WITH(fabric_of_file("pcie_2x.json", {}), ContainsSubstring("1 to 16 ranks, found 0"));
  CHECK_THROWS_WITH(fabric_of_file("pcie_2x.json", std::vector<int>(17, 0)), ContainsSubstring("found 17"));
  CHECK_THROWS_WITH(host_fabric(0), ContainsSubstring("found 0"));
  CHECK_THROWS_WITH(host_fabric(17), ContainsSubstring("found 17"));

  Machine unseen = test_machine("pcie_2x.json");
  unseen.nodes[1].device = -1;
  CHECK_THROWS_WITH(fabric_of(unseen, std::vector{0, -1}), ContainsSubstring("no CUDA device -1"));
  Machine broken = test_machine("pcie_2x.json");
  broken.peers[0].to = 9;
  CHECK_THROWS_WITH(fabric_of(broken, std::vector{0, 1}), ContainsSubstring("peer 0"));
}

TEST_CASE("figures beyond 32 bits stay within them", "[topology][fabric]") {
  Machine machine = test_machine("pcie_2x.json");
  machine.peers[0].gb_per_s = 1e300;
  machine.peers[0].latency_us = 1e300;
  machine.peers[1].gb_per_s = 1e-300;
  const Fabric fabric = fabric_of(machine, std::vector{0, 1});
  CHECK(fabric.link(0, 1) == FabricLink{true, 0xffffffff, 0xffffffff});
  CHECK(fabric.link(1, 0).mb_per_s == 1);
  CHECK(fabric.port_mb_per_s == 1);
}

TEST_CASE("every rank of the host reaches every other", "[topology][fabric]") {
  const int ranks = GENERATE(1, 2, 3, 16);
  const Fabric fabric = host_fabric(ranks);
  CHECK(fabric.backend == Backend::host);
  CHECK(fabric.fully_connected());
  CHECK(fabric.links.size() == static_cast<std::size_t>(ranks * ranks));
  CHECK(fabric.launch_ns == 20'000);
  CHECK(fabric.ranks_per_device == 1);
}

TEST_CASE("a policy takes refused pairs off the direct paths, both ways, and no others", "[topology][fabric]") {
  const Fabric before = fabric_of_file("nvswitch_8x.json", {0, 1, 2, 3});
  Fabric fabric = before;
  apply_peer_policy(fabric, [](int, int) { return false; });
  CHECK(fabric == before);
  apply_peer_policy(fabric, [](int a, int b) { return a == 1 && b == 3; });
  CHECK_FALSE(fabric.link(1, 3).direct);
  CHECK_FALSE(fabric.link(3, 1).direct);
  CHECK(fabric.link(1, 3).mb_per_s < before.link(1, 3).mb_per_s);
  CHECK(fabric.link(1, 3).latency_ns == 2000);
  CHECK(fabric.link(0, 3) == before.link(0, 3));
  CHECK_FALSE(fabric.fully_connected());
}

TEST_CASE("the number of NVLinks is read from a path and nothing else", "[topology][fabric]") {
  CHECK(nvlinks_of("NV18") == 18);
  CHECK(nvlinks_of("NV1") == 1);
  for (const char* other : {"", "NV", "NV0", "NV-1", "NVx", "NV1x", "NV99999999999", "SYS", "nv2"}) {
    CAPTURE(other);
    CHECK(nvlinks_of(other) == 0);
  }
}

TEST_CASE("a fabric's bytes are fixed and come back as the same fabric", "[topology][fabric]") {
  for (const Fabric& fabric : {host_fabric(1), host_fabric(16), fabric_of_file("nvlink_pairs_4x.json", {0, 1, 2, 3, 3})})
    CHECK(fabric_from_bytes(to_bytes(fabric)) == fabric);
  CHECK(to_bytes(host_fabric(1)) == std::vector<std::uint8_t>{'C', 'F', 'B',  1,    2,    0,    0, 0, 1,    0, 0, 0, 0x40, 0x1f,
                                                              0,   0,   0x20, 0x4e, 0,    0,    1, 0, 0,    0, 0, 0, 0,    0,
                                                              1,   0,   0,    0,    0x40, 0x1f, 0, 0, 0x2c, 1, 0, 0});
}

TEST_CASE("bytes that are no fabric are refused", "[topology][fabric]") {
  const auto good = to_bytes(host_fabric(3));
  for (std::size_t length = 0; length < good.size(); ++length) {
    CAPTURE(length);
    REQUIRE_THROWS_WITH(fabric_from_bytes(std::span(good).first(length)), ContainsSubstring("expected"));
  }
  auto longer = good;
  longer.push_back(0);
  CHECK_THROWS_WITH(fabric_from_bytes(longer), ContainsSubstring("found more"));

  const auto [place, value, complaint] = GENERATE(table<std::size_t, int, const char*>({
      {3, 2, "of this build"},
      {4, 0, "of GPUs or of the host"},
      {4, 3, "of GPUs or of the host"},
      {8, 0, "1 to 16 ranks"},
      {8, 17, "1 to 16 ranks"},
      {11, 0x80, "1 to 16 ranks"},
      {20, 0, "ranks on a device"},
      {20, 4, "ranks on a device"},
      {28, 2, "direct or not"},
  }));
  auto changed = good;
  changed[place] = static_cast<std::uint8_t>(value);
  CAPTURE(place, value);
  CHECK_THROWS_WITH(fabric_from_bytes(changed), ContainsSubstring(complaint));
}

TEST_CASE("random bytes are a fabric with exactly these bytes, or refused", "[topology][fabric][fuzz]") {
  const auto seed = GENERATE(take(1, random(0, 1 << 30)));
  CAPTURE(seed);
  std::mt19937_64 random(static_cast<std::uint64_t>(seed));
  int valid = 0;
  for (int i = 0; i < 20'000; ++i) {
    auto bytes = to_bytes(host_fabric(1 + static_cast<int>(random() % 4)));
    for (auto changes = random() % 4; changes > 0; --changes) bytes[random() % bytes.size()] = static_cast<std::uint8_t>(random());
    if (random() % 8 == 0) bytes.resize(random() % (2 * bytes.size()));
    CAPTURE(i);
    try {
      const Fabric fabric = fabric_from_bytes(bytes);
      ++valid;
      REQUIRE(to_bytes(fabric) == bytes);
    } catch (const Error& error) {
      REQUIRE(error.code() == ErrorCode::invalid_argument);
    }
  }
  CHECK(valid > 1000);
  CHECK(valid < 20'000);
}
