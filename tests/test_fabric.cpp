#include <collectives/error.hpp>
#include <algorithm>
#include <random>
#include <tuple>

#include "machines.hpp"
#include "test.hpp"
#include "topology/fabric.hpp"
#include "topology/priors.hpp"

using namespace collectives;

namespace {

Fabric fabric_of_file(const char* name, const std::vector<int>& devices) { return fabric_of(test_machine(name), devices); }

std::tuple<bool, std::uint32_t, std::uint32_t> figures(const FabricLink& link) { return {link.direct, link.mb_per_s, link.latency_ns}; }

/// The kinds of what a pair's way leads over, in order.
std::vector<ResourceKind> kinds(const Fabric& fabric, const FabricLink& link) {
  std::vector<ResourceKind> kinds;
  for (const std::uint16_t index : link.route) kinds.push_back(fabric.resources[index].kind);
  return kinds;
}

/// Two pairs' ways share something.
bool share(const FabricLink& a, const FabricLink& b) {
  return std::any_of(a.route.begin(), a.route.end(), [&](std::uint16_t index) { return std::find(b.route.begin(), b.route.end(), index) != b.route.end(); });
}

std::uint32_t least_on(const Fabric& fabric, const FabricLink& link) {
  std::uint32_t least = link.mb_per_s;
  for (const std::uint16_t index : link.route) least = std::min(least, fabric.resources[index].mb_per_s);
  return least;
}

using Kinds = std::vector<ResourceKind>;

Peer& entry(Machine& machine, int from, int to) { return const_cast<Peer&>(*machine.peer(from, to)); }

}  // namespace

TEST_CASE("GPUs behind NVSwitches share a port for all peers", "[topology][fabric]") {
  const Fabric fabric = fabric_of_file("nvswitch_8x.json", {0, 1, 2, 3, 4, 5, 6, 7});
  CHECK(fabric.backend == Backend::cuda);
  CHECK(fabric.ranks == 8);
  CHECK(fabric.fully_connected());
  CHECK(figures(fabric.link(0, 7)) == std::tuple(true, 370'000u, 700u));
  CHECK(figures(fabric.link(7, 0)) == figures(fabric.link(0, 7)));
  CHECK(kinds(fabric, fabric.link(0, 7)) == Kinds{ResourceKind::port_out, ResourceKind::port_in});
  CHECK(least_on(fabric, fabric.link(0, 7)) == 355'200);
  CHECK(share(fabric.link(0, 7), fabric.link(0, 1)));
  CHECK_FALSE(share(fabric.link(0, 7), fabric.link(1, 0)));
  CHECK(fabric.launch_ns == 1250);
  CHECK(fabric.ranks_per_device == 1);
  CHECK(fabric.multiprocessors == 132);
  // Two of them have the whole port for one flow.
  const Fabric pair = fabric_of_file("nvswitch_8x.json", {2, 5});
  CHECK(least_on(pair, pair.link(0, 1)) == 370'000);
}

TEST_CASE("a machine's figures beat the priors", "[topology][fabric]") {
  const Fabric fabric = fabric_of_file("pcie_2x.json", {0, 1});
  CHECK(figures(fabric.link(0, 1)) == std::tuple(true, 26'300u, 650u));
  // Both slots at once give what healthy PCIe gives.
  CHECK(kinds(fabric, fabric.link(0, 1)) == Kinds{ResourceKind::slot_out, ResourceKind::slot_in});
  CHECK(least_on(fabric, fabric.link(0, 1)) == 23'802);

  Machine machine = test_machine("nvswitch_8x.json");
  entry(machine, 0, 1).gb_per_s = 400;
  CHECK(figures(fabric_of(machine, std::vector{0, 1}).link(0, 1)) == std::tuple(true, 400'000u, 700u));
  CHECK(figures(fabric_of(machine, std::vector{0, 1}).link(1, 0)) == std::tuple(true, 370'000u, 700u));
}

TEST_CASE("bridged pairs mix NVLink and the slot", "[topology][fabric]") {
  const Fabric fabric = fabric_of_file("nvlink_pairs_4x.json", {0, 1, 2, 3});
  CHECK(fabric.fully_connected());
  CHECK(figures(fabric.link(0, 1)) == std::tuple(true, 50'500u, 700u));
  CHECK(figures(fabric.link(0, 2)) == std::tuple(true, 13'000u, 1100u));
  CHECK(fabric.link(0, 1).route.empty());
  CHECK_FALSE(fabric.link(0, 1).root);
  // Two of three peers go through one slot and a CPU's root.
  CHECK(fabric.link(0, 2).root);
  CHECK(share(fabric.link(0, 2), fabric.link(0, 3)));
  CHECK_FALSE(share(fabric.link(0, 2), fabric.link(1, 3)));
}

TEST_CASE("a mesh of NVLinks gives each peer its own links", "[topology][fabric]") {
  Machine machine = test_machine("nvlink_pairs_4x.json");
  for (Peer& peer : machine.peers) {
    peer.path = "NV1";
    peer.gb_per_s = 0;
  }
  const Fabric fabric = fabric_of(machine, std::vector{0, 1, 2, 3});
  CHECK(fabric.link(0, 3).mb_per_s == 12'600);
  for (const FabricLink& link : fabric.links) CHECK(link.route.empty());
}

TEST_CASE("GPUs that do not reach each other get the way through the host", "[topology][fabric]") {
  const Fabric fabric = fabric_of_file("pcie_no_peers_8x.json", {0, 1, 2, 3, 4, 5, 6, 7});
  CHECK_FALSE(fabric.fully_connected());
  CHECK(figures(fabric.link(0, 1)) == std::tuple(false, 19'500u, 2000u));
  using enum ResourceKind;
  CHECK(kinds(fabric, fabric.link(0, 1)) == Kinds{slot_out, root, host_memory, root, slot_in});
  CHECK(kinds(fabric, fabric.link(0, 4)) == Kinds{slot_out, root, socket, host_memory, root, slot_in});
  // What goes to one socket meets in its memory, and in the link between sockets if it comes from the other.
  CHECK(share(fabric.link(0, 1), fabric.link(2, 3)));
  CHECK_FALSE(share(fabric.link(0, 1), fabric.link(4, 5)));
  CHECK(share(fabric.link(0, 4), fabric.link(1, 5)));
  CHECK_FALSE(share(fabric.link(0, 4), fabric.link(5, 1)));
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

TEST_CASE("what was measured without access is the way through host memory", "[topology][fabric]") {
  Machine machine = test_machine("pcie_no_peers_8x.json");
  entry(machine, 0, 1).gb_per_s = 8;
  const Fabric fabric = fabric_of(machine, std::vector{0, 1, 2});
  CHECK(figures(fabric.link(0, 1)) == std::tuple(false, 8'000u, 2000u));
  CHECK(figures(fabric.link(1, 0)) == std::tuple(false, 19'500u, 2000u));
}

TEST_CASE("a machine without links has slots, and one link each way between its sockets", "[topology][fabric]") {
  Machine machine = test_machine("two_sockets_8x.json");
  machine.links.clear();
  const Fabric fabric = fabric_of(machine, std::vector{0, 1, 4, 5});
  using enum ResourceKind;
  CHECK(kinds(fabric, fabric.link(0, 1)) == Kinds{slot_out, slot_in});
  CHECK(kinds(fabric, fabric.link(0, 2)) == Kinds{slot_out, socket, slot_in});
  CHECK(kinds(fabric, fabric.staged[fabric.index(0, 1)]) == Kinds{slot_out, host_memory, slot_in});
  CHECK(share(fabric.link(0, 2), fabric.link(1, 3)));
  CHECK_FALSE(share(fabric.link(0, 2), fabric.link(3, 1)));
}

TEST_CASE("a switch's uplink is shared by all below it, and by nobody else", "[topology][fabric]") {
  const Fabric fabric = fabric_of_file("pcie_switches_8x.json", {0, 1, 2, 3, 4, 5, 6, 7});
  CHECK(kinds(fabric, fabric.link(0, 1)) == Kinds{ResourceKind::slot_out, ResourceKind::slot_in});
  CHECK(share(fabric.link(0, 4), fabric.link(1, 5)));
  CHECK_FALSE(share(fabric.link(0, 4), fabric.link(2, 3)));
  CHECK_FALSE(share(fabric.link(0, 4), fabric.link(5, 1)));
  for (const Resource& resource : fabric.resources) CHECK_FALSE(to_string(resource).empty());
  CHECK(to_string(fabric.resources[fabric.link(3, 1).route[0]]) == "rank 3's PCIe slot, outgoing");
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
  CHECK(figures(same.link(0, 2)) == std::tuple(true, 1'000'000u, 700u));
  CHECK(share(same.link(0, 1), same.link(2, 1)));
  CHECK(share(same.link(0, 1), same.link(1, 0)));

  const Fabric mixed = fabric_of_file("nvswitch_8x.json", {0, 0, 1, 1});
  CHECK(mixed.ranks_per_device == 2);
  CHECK(figures(mixed.link(0, 1)) == std::tuple(true, 1'000'000u, 700u));
  CHECK(figures(mixed.link(1, 2)) == std::tuple(true, 370'000u, 700u));
  // Two ranks send over one GPU's links.
  CHECK(share(mixed.link(0, 2), mixed.link(1, 3)));
  CHECK_FALSE(share(mixed.link(0, 2), mixed.link(2, 0)));
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
  CHECK(figures(fabric.link(0, 1)) == std::tuple(true, 0xffffffffu, 0xffffffffu));
  CHECK(fabric.link(1, 0).mb_per_s == 1);
  CHECK(least_on(fabric, fabric.link(1, 0)) == 1);
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
  CHECK(fabric.link(1, 3) == before.staged[before.index(1, 3)]);
  CHECK(fabric.link(1, 3).mb_per_s < before.link(1, 3).mb_per_s);
  CHECK(fabric.link(1, 3).latency_ns == 2000);
  using enum ResourceKind;
  CHECK(kinds(fabric, fabric.link(1, 3)) == Kinds{slot_out, root, host_memory, root, slot_in});
  CHECK(fabric.link(0, 3) == before.link(0, 3));
  CHECK_FALSE(fabric.fully_connected());
}

TEST_CASE("a pair that is pulled keeps its way and rate, and is told of through host memory", "[topology][fabric]") {
  const Fabric before = fabric_of_file("nvswitch_8x.json", {0, 1, 2, 3});
  Fabric fabric = before;
  pull_pairs(fabric, [](int a, int b) { return a == 1 && b == 3; });
  for (const auto& [from, to] : {std::pair(1, 3), std::pair(3, 1)}) {
    CHECK(fabric.link(from, to).handover() == Handover::pull);
    CHECK(fabric.link(from, to).route == before.link(from, to).route);
    CHECK(fabric.link(from, to).mb_per_s == before.link(from, to).mb_per_s);
    CHECK(fabric.link(from, to).latency_ns == before.link(from, to).latency_ns + before.staged[before.index(from, to)].latency_ns);
    CHECK_FALSE(fabric.meet_on_host(from, to));
  }
  CHECK(fabric.link(0, 3) == before.link(0, 3));
  CHECK_FALSE(fabric.fully_connected());
  // A machine that says so gives the same.
  Machine machine = test_machine("nvswitch_8x.json");
  for (Peer& peer : machine.peers) peer.pulled = (peer.from == 1 && peer.to == 3) || (peer.from == 3 && peer.to == 1);
  const Fabric said = fabric_of(machine, std::vector{0, 1, 2, 3});
  CHECK(said.link(1, 3).handover() == Handover::pull);
  CHECK(figures(said.link(1, 3)) == figures(fabric.link(1, 3)));
  CHECK((fabric.pulls() && said.pulls() && !before.pulls()));
  Fabric refused = before;
  apply_peer_policy(refused, [](int a, int b) { return a == 1 && b == 3; });
  CHECK(without_pulls(fabric) == refused);
  CHECK(without_pulls(before) == before);
  apply_peer_policy(fabric, [](int, int) { return true; });
  CHECK(fabric.link(1, 3).handover() == Handover::host);
  pull_pairs(fabric, [](int, int) { return true; });
  CHECK(fabric.link(1, 3).handover() == Handover::host);
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
  const std::vector<std::uint32_t> words = {0x03424643, 2, 1, 20'000, 1, 0,      // mark, host, ranks, launch, ranks a device, multiprocessors
                                            2, 10, 0, 0, 8000, 11, 0, 0, 8000,  // resources
                                            1, 8000, 300, 0, 1, 8000, 300, 0};  // a link as used and as staged
  std::vector<std::uint8_t> bytes;
  for (const std::uint32_t word : words)
    for (int shift = 0; shift < 32; shift += 8) bytes.push_back(static_cast<std::uint8_t>(word >> shift));
  CHECK(to_bytes(host_fabric(1)) == bytes);
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
      {3, 1, "of this build"},
      {4, 0, "of GPUs or of the host"},
      {4, 3, "of GPUs or of the host"},
      {8, 0, "1 to 16 ranks"},
      {8, 17, "1 to 16 ranks"},
      {11, 0x80, "1 to 16 ranks"},
      {16, 0, "ranks on a device"},
      {16, 4, "ranks on a device"},
      {28, 12, "kind of resource"},
      {32, 3, "of the fabric's ranks"},
      {124, 16, "direct or not"},
      {153, 1, "at most 64"},
      {156, 6, "over the fabric's resources"},
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
