#include <unistd.h>

#include <cstdio>

#include "base/file_descriptor.hpp"
#include "comm/impl.hpp"
#include "machines.hpp"
#include "ranks.hpp"
#include "test.hpp"
#include "variable.hpp"

using namespace collectives;

namespace {

Options on_host(std::optional<PeerMode> mode = {}) {
  Options options;
  options.backend = Backend::host;
  options.pool_bytes = 8u << 20;
  options.mode = mode;
  return options;
}

KnownFabric known_of(const Options& options, int ranks) {
  std::vector<int> devices;
  for (int rank = 0; rank < ranks; ++rank) devices.push_back(rank);
  return fabric_for(devices, Backend::host, settings_from(options));
}

std::string error_of(const std::function<void()>& body) { return outcome_of([&](int) { body(); }, 0); }

constexpr const char* chipset = "the driver does not allow it on this chipset, as in most virtual machines";

}  // namespace

TEST_CASE("mode p2p names the pairs without a link, and why", "[comm][host][mode]") {
  Options options = on_host(PeerMode::p2p);
  CHECK(error_of([&] { (void)Communicator::create_local({0, 1, 2}, options); }) == "ok");
  options.refused = {{2, 0}, {1, 2}};
  CHECK(error_of([&] { (void)Communicator::create_local({0, 1, 2}, options); }) ==
        "unsupported: mode p2p: expected every pair of ranks to reach each other's memory; missing: 0-2, 1-2 (refused by the options)");
}

TEST_CASE("mode p2p gives the machine's own reason for a missing link", "[comm][host][mode]") {
  const Variable machine("COLLECTIVES_MACHINE", machine_path("chain_3x.json"));
  CHECK(error_of([&] { (void)Communicator::create_local({0, 1, 2}, on_host(PeerMode::p2p)); }) ==
        std::string("unsupported: mode p2p: expected every pair of ranks to reach each other's memory; missing: 0-2 (") + chipset + ")");
  CHECK(error_of([&] { (void)Communicator::create_local({0, 1}, on_host(PeerMode::p2p)); }) == "ok");
}

TEST_CASE("every rank of a communicator of processes hears which links mode p2p misses", "[comm][host][mode]") {
  const UniqueId id = make_unique_id();
  const auto outcomes = run_ranks(RanksAre::processes, 3, [&](int rank) {
    Options options = on_host(PeerMode::p2p);
    if (rank == 0) options.refused = {{0, 1}};  // rank 0's count
    (void)Communicator::create(id, rank, 3, options);
  });
  for (const std::string& outcome : outcomes)
    CHECK(outcome == "unsupported: mode p2p: expected every pair of ranks to reach each other's memory; missing: 0-1 (refused by the options)");
}

TEST_CASE("ranks of which one alone wants mode p2p are refused", "[comm][host][mode]") {
  const UniqueId id = make_unique_id();
  const auto outcomes = run_ranks(RanksAre::processes, 2, [&](int rank) {
    const Variable p2p("COLLECTIVES_P2P", rank == 0 ? "required" : "auto");
    (void)Communicator::create(id, rank, 2, on_host());
  });
  for (const std::string& outcome : outcomes) CHECK_THAT(outcome, ContainsSubstring("were given different options"));
}

TEST_CASE("a mode in the options beats COLLECTIVES_P2P, which counts where none is given", "[comm][host][mode]") {
  {
    const Variable p2p("COLLECTIVES_P2P", "off");
    CHECK_FALSE(known_of(on_host(), 2).fabric.link(0, 1).direct);
    CHECK(known_of(on_host(PeerMode::automatic), 2).fabric.link(0, 1).direct);
    CHECK(known_of(on_host(PeerMode::p2p), 2).fabric.fully_connected());
  }
  const Variable p2p("COLLECTIVES_P2P", "0-1");
  CHECK_FALSE(known_of(on_host(), 3).fabric.link(1, 0).direct);
  CHECK(known_of(on_host(), 3).fabric.link(1, 2).direct);
  CHECK_FALSE(known_of(on_host(PeerMode::host), 3).fabric.link(1, 2).direct);
}

TEST_CASE("COLLECTIVES_P2P=required is mode p2p", "[comm][host][mode]") {
  const Variable p2p("COLLECTIVES_P2P", "required");
  Options options = on_host();
  options.refused = {{0, 1}};
  CHECK_THAT(error_of([&] { (void)Communicator::create_local({0, 1}, options); }), ContainsSubstring("missing: 0-1"));
}

TEST_CASE("one line says what was chosen and why", "[comm][host][mode]") {
  CHECK(choice_text(known_of(on_host(), 1), PeerMode::automatic) == "1 rank on the host, mode auto");
  CHECK(choice_text(known_of(on_host(), 3), PeerMode::automatic) == "3 ranks on the host, mode auto: every pair writes into each other's memory");
  CHECK(choice_text(known_of(on_host(PeerMode::host), 3), PeerMode::host) == "3 ranks on the host, mode host: 3 of 3 pairs meet in host memory: 0-1, 0-2, 1-2 (mode host)");
  const Variable p2p("COLLECTIVES_P2P", "0-1");
  Options options = on_host();
  options.refused = {{3, 2}};
  CHECK(choice_text(known_of(options, 4), PeerMode::automatic) ==
        "4 ranks on the host, mode auto: 2 of 6 pairs meet in host memory: 0-1 (refused by COLLECTIVES_P2P); 2-3 (refused by the options)");
}

TEST_CASE("pairs that read each other's memory are named, and do for mode p2p", "[comm][host][mode]") {
  const Variable p2p("COLLECTIVES_P2P", "0-1,pull:1-2");
  const KnownFabric known = known_of(on_host(), 3);
  CHECK(choice_text(known, PeerMode::automatic) ==
        "3 ranks on the host, mode auto: 1 of 3 pairs meet in host memory: 0-1 (refused by COLLECTIVES_P2P); 1 of 3 pairs read each other's memory: 1-2 "
        "(pulled by COLLECTIVES_P2P)");
  const Variable pull("COLLECTIVES_P2P", "pull:1-2");
  const KnownFabric all_by_peer = known_of(on_host(), 3);
  CHECK_FALSE(all_by_peer.fabric.fully_connected());
  CHECK_NOTHROW(expect_mode(all_by_peer, PeerMode::p2p));
  CHECK(fabric_from_bytes(to_bytes(all_by_peer.fabric)) == all_by_peer.fabric);
}

TEST_CASE("a proof that failed is why a pair meets in host memory", "[comm][host][mode]") {
  KnownFabric known = known_of(on_host(), 3);
  apply_peer_policy(known.fabric, [](int a, int b) { return a == 1 && b == 2; });
  note_failed_proofs(known);
  CHECK(choice_text(known, PeerMode::automatic) ==
        "3 ranks on the host, mode auto: 1 of 3 pairs meet in host memory: 1-2 (what one stores does not arrive at the other)");
  CHECK_THROWS_AS(expect_mode(known, PeerMode::p2p), Error);
  CHECK_NOTHROW(expect_mode(known, PeerMode::automatic));
}
