// What a communicator does with links that nothing has proved yet.
#include <numeric>

#include "comm/prove.hpp"
#include "machines.hpp"
#include "test.hpp"

using namespace collectives;

namespace {

std::vector<int> alone(int ranks) {
  std::vector<int> first(static_cast<std::size_t>(ranks));
  std::iota(first.begin(), first.end(), 0);
  return first;
}

Fabric nvswitch(const std::vector<int>& devices, bool proved = false) {
  Machine machine = test_machine("nvswitch_8x.json");
  for (Peer& peer : machine.peers) peer.evidence = proved ? Evidence::verified : Evidence::measured;
  return fabric_of(machine, devices);
}

}  // namespace

TEST_CASE("every pair of GPUs is due for a proof until it is verified", "[comm][prove]") {
  const RankMasks due = due_proofs(nvswitch({0, 1, 2}), alone(3));
  CHECK((due[0] == 0b110 && due[1] == 0b101 && due[2] == 0b011 && due[3] == 0));
  CHECK_FALSE(any(due_proofs(nvswitch({0, 1, 2}, true), alone(3))));
  CHECK_FALSE(any(due_proofs(host_fabric(4), alone(4))));
  Fabric played = nvswitch({0, 1, 2});
  played.backend = Backend::host;
  CHECK_FALSE(any(due_proofs(played, alone(3))));
}

TEST_CASE("ranks on one GPU leave the proof to the first of them", "[comm][prove]") {
  const RankMasks due = due_proofs(nvswitch({0, 0, 1, 1}), {0, 0, 2, 2});
  CHECK((due[0] == 0b0100 && due[1] == 0 && due[2] == 0b0001 && due[3] == 0));
  CHECK_FALSE(any(due_proofs(nvswitch({3, 3}), {0, 0})));
}

TEST_CASE("refused pairs are not due", "[comm][prove]") {
  Fabric fabric = nvswitch({0, 1, 2});
  apply_peer_policy(fabric, [](int a, int b) { return a == 0 && b == 1; });
  const RankMasks due = due_proofs(fabric, alone(3));
  CHECK((due[0] == 0b100 && due[1] == 0b100 && due[2] == 0b011));
}

TEST_CASE("a link that fails leads through host memory both ways, for all ranks on its GPUs, and no other does", "[comm][prove]") {
  Fabric fabric = nvswitch({0, 0, 1, 2});
  RankMasks failed{};
  failed[2] = 0b0001;  // what rank 0 stores does not come to rank 2
  CHECK(demote(fabric, failed, {0, 0, 2, 3}));
  for (int a = 0; a < 4; ++a)
    for (int b = 0; b < 4; ++b) {
      CAPTURE(a, b);
      const bool apart = (a < 2 && b == 2) || (a == 2 && b < 2);
      CHECK(fabric.link(a, b).direct == !apart);
    }
  Fabric whole = nvswitch({0, 1});
  const Fabric before = whole;
  CHECK_FALSE(demote(whole, {}, alone(2)));
  CHECK(whole == before);
}

TEST_CASE("whether a link is proved travels with the fabric", "[comm][prove]") {
  const bool proved = GENERATE(false, true);
  const Fabric fabric = nvswitch({0, 1, 1}, proved);
  CHECK(fabric.link(0, 1).unproved == !proved);
  CHECK_FALSE(fabric.link(1, 2).unproved);
  CHECK(fabric_from_bytes(to_bytes(fabric)) == fabric);
}
