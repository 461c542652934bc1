#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "topology/assemble.hpp"
#include "topology/chips.hpp"
#include "topology/importers.hpp"
#include "topology/p2p_test_text.hpp"
#include "topology/priors.hpp"
#include "topology/refusals.hpp"
#include "topology/smi_tree.hpp"

namespace collectives {
namespace {

/// What no PCIe slot gives: more than a Gen5 slot of 16 lanes, or, where the way through host memory was measured as well,
/// clearly more than that. PCIe with peer access measures 1.0 to 1.4 times the staged rate, one NVLink of a V100 twice.
bool is_nvlink(const P2pTest& test, std::size_t from, std::size_t to) {
  const double direct = test.gb_per_s(false, from, to), staged = test.gb_per_s(true, from, to);
  if (!test.access(from, to).value_or(true)) return false;
  return staged > 0 ? direct > 1.8 * staged : direct > 70;
}

/// NVLinks of the measured rates. Nothing tells a switch from a mesh; where a GPU reaches all of several others, one flow's rate
/// is taken for that of its whole port, which promises no more than was seen.
void add_nvlinks(Machine& machine, const P2pTest& test) {
  for (std::size_t from = 0; from < test.gpus; ++from) {
    double port = 0;
    std::size_t peers = 0;
    for (std::size_t to = 0; to < test.gpus; ++to) {
      if (from == to || !is_nvlink(test, from, to)) continue;
      ++peers;
      port = std::max(port, test.gb_per_s(false, from, to));
    }
    const int node = static_cast<int>(from);
    if (peers >= 2 && peers == test.gpus - 1) {
      join(machine, node, nvswitch_of(machine), LinkKind::nvlink, port);
    } else {
      for (std::size_t to = 0; to < from; ++to)
        if (is_nvlink(test, from, to)) join(machine, node, static_cast<int>(to), LinkKind::nvlink, test.gb_per_s(false, from, to));
    }
  }
}

/// As many links as fit the rate.
std::string nvlink_path(const Machine& machine, const Peer& peer, double gb_per_s) {
  const auto chip = [&](int node) { return machine.nodes[static_cast<std::size_t>(node)].compute_capability; };
  const double link = direct_rate("NV1", std::min(chip(peer.from), chip(peer.to)), 0).gb_per_s;
  return fmt::format("NV{}", std::clamp(std::lround(gb_per_s / link), 1l, 18l));
}

/// What a GPU's slot was seen to carry.
double slot_seen(const P2pTest& test, std::size_t gpu) {
  double slot = 0;
  for (std::size_t to = 0; to < test.gpus; ++to)
    if (to != gpu) slot = std::max({slot, test.gb_per_s(true, gpu, to), is_nvlink(test, gpu, to) ? 0 : test.gb_per_s(false, gpu, to)});
  return slot;
}

/// Figures without access are those of the way through host memory.
void put(Machine& machine, Peer& peer, const P2pTest& test, std::size_t from, std::size_t to) {
  if (const auto access = test.access(from, to)) {
    if (peer.access && !*access) {
      peer.native_atomics = false;
      peer.evidence = Evidence::claimed;  // of the path that was
    }
    peer.access = *access;
    if (*access) {
      peer.reason = peer.remedy = "";
    } else if (peer.reason.empty()) {
      const Refusal refusal = refusal_of({}, machine, machine.nodes[static_cast<std::size_t>(peer.from)], machine.nodes[static_cast<std::size_t>(peer.to)]);
      peer.reason = refusal.reason;
      peer.remedy = refusal.remedy;
    }
  }
  // Where there is no access, the test copies through the host in both of its modes.
  double gb_per_s = test.gb_per_s(!peer.access, from, to), latency_us = test.latency_us(!peer.access, from, to);
  if (!peer.access && gb_per_s == 0) gb_per_s = test.gb_per_s(false, from, to);
  if (!peer.access && latency_us == 0) latency_us = test.latency_us(false, from, to);
  if (gb_per_s > 0) peer.gb_per_s = gb_per_s;
  if (latency_us > 0) peer.latency_us = latency_us;
  if (gb_per_s > 0 || latency_us > 0) peer.evidence = std::max(peer.evidence, Evidence::measured);
}

void put_all(Machine& machine, const P2pTest& test, const std::vector<int>& nodes) {
  for (std::size_t from = 0; from < test.gpus; ++from)
    for (std::size_t to = 0; to < test.gpus; ++to)
      if (from != to) put(machine, peer_entry(machine, nodes[from], nodes[to]), test, from, to);
}

/// The machine's GPU that a device of the test is.
int node_of(const Machine& machine, const P2pTest& test, const SourceText& source, std::size_t device) {
  const std::string& pci = test.devices[device].pci;
  bool addressed = false;
  for (const int gpu : machine.gpus()) {
    const Node& node = machine.nodes[static_cast<std::size_t>(gpu)];
    if (pci.empty() || node.pci.empty() ? node.device == static_cast<int>(device) : node.pci == pci) return gpu;
    addressed = addressed || !node.pci.empty();
  }
  const auto missing = addressed && !pci.empty() ? fmt::format("none at {}", pci) : fmt::format("no device {}", device);
  source.fail(test.offset, fmt::format("measurements of this machine's GPUs; it has {}", missing));
}

}  // namespace

Machine read_p2p_test(const SourceText& source) {
  const P2pTest test = read_p2p_matrices(source);
  Machine machine;
  std::vector<int> nodes;
  for (std::size_t i = 0; i < test.gpus; ++i) {
    Node node;
    node.name = test.devices[i].name.empty() ? fmt::format("GPU {}", i) : test.devices[i].name;
    node.pci = test.devices[i].pci;
    node.device = static_cast<int>(i);
    node.compute_capability = chip_named(node.name);
    nodes.push_back(add_node(machine, std::move(node)));
  }
  add_plain_tree(machine);
  add_nvlinks(machine, test);
  for (Link& link : machine.links)
    if (link.kind == LinkKind::pcie) link.gb_per_s = slot_seen(test, static_cast<std::size_t>(std::min(link.from, link.to)));
  const bool asked =
      !test.matrices[P2pTest::one_way].empty() || !test.matrices[P2pTest::both_ways].empty() || !test.matrices[P2pTest::latency].empty();
  for (std::size_t from = 0; from < test.gpus; ++from)
    for (std::size_t to = 0; to < test.gpus; ++to) {
      if (from == to) continue;
      Peer& peer = peer_entry(machine, nodes[from], nodes[to]);
      peer.access = asked;
      if (!asked) {
        peer.reason = "it was measured without peer access only";
        peer.remedy = "see whether nvidia-smi topo -p2p r reports it, and measure with it";
      }
      if (is_nvlink(test, from, to)) peer.path = nvlink_path(machine, peer, test.gb_per_s(false, from, to));
    }
  put_all(machine, test, nodes);
  complete_rates(machine);
  check_consistent(machine, source, test.offset);
  return machine;
}

void overlay_p2p_test(Machine& machine, const SourceText& source) {
  const P2pTest test = read_p2p_matrices(source);
  std::vector<int> nodes;
  for (std::size_t i = 0; i < test.gpus; ++i) {
    nodes.push_back(node_of(machine, test, source, i));
    // Matrices of nvidia-smi have no addresses.
    if (std::string& pci = machine.nodes[static_cast<std::size_t>(nodes.back())].pci; pci.empty()) pci = test.devices[i].pci;
  }
  put_all(machine, test, nodes);
  check_consistent(machine, source, test.offset);
}

}  // namespace collectives
