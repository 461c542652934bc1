// From the graph of a machine to the whole numbers that plans depend on. Figures of the machine are taken where it has them;
// elsewhere the path's prior stands in.
#include "topology/fabric.hpp"

#include <fmt/format.h>
#include <collectives/communicator.hpp>

#include <algorithm>
#include <limits>

#include "base/require.hpp"
#include "topology/fabric_ranks.hpp"
#include "topology/fabric_routes.hpp"

namespace collectives {
namespace {

FabricLink link_of(bool direct, Rate rate, std::vector<std::uint16_t> route) {
  return {.direct = direct, .mb_per_s = thousandths(rate.gb_per_s), .latency_ns = thousandths(rate.latency_us), .route = std::move(route)};
}

}  // namespace

std::string to_string(const Resource& resource) {
  const auto one = [](int rank, const char* what) { return fmt::format("rank {}'s {}", rank, what); };
  const auto between = [&](const char* what) { return fmt::format("the {} on the way from rank {} to rank {}", what, resource.from, resource.to); };
  switch (resource.kind) {
    case ResourceKind::gpu_memory: return one(resource.from, "GPU memory");
    case ResourceKind::nvlink: return fmt::format("the NVLinks from rank {} to rank {}", resource.from, resource.to);
    case ResourceKind::port_out: return one(resource.from, "NVLink port, outgoing");
    case ResourceKind::port_in: return one(resource.to, "NVLink port, incoming");
    case ResourceKind::slot_out: return one(resource.from, "PCIe slot, outgoing");
    case ResourceKind::slot_in: return one(resource.to, "PCIe slot, incoming");
    case ResourceKind::pcie: return between("PCIe uplink");
    case ResourceKind::root: return between("PCIe root");
    case ResourceKind::socket: return between("link between sockets");
    case ResourceKind::host_memory: return between("host memory");
    case ResourceKind::core_out: return one(resource.from, "core, writing");
    case ResourceKind::core_in: return one(resource.to, "core, reading");
  }
  return "unknown";
}

bool Fabric::fully_connected() const {
  for (int from = 0; from < ranks; ++from)
    for (int to = 0; to < ranks; ++to)
      if (from != to && !link(from, to).direct) return false;
  return true;
}

bool Fabric::pulls() const {
  return std::any_of(links.begin(), links.end(), [](const FabricLink& link) { return link.pulled; });
}

bool Fabric::meets_on_host() const {
  for (int from = 0; from < ranks; ++from)
    for (int to = 0; to < ranks; ++to)
      if (from != to && link(from, to).by_peer()) return false;
  return true;
}

Fabric fabric_of(const Machine& machine, std::span<const int> devices) {
  validate(machine);
  const FabricRanks ranks(machine, devices);
  Routes routes(ranks);
  // A node of a graph and what every call begins and ends with: what the smallest messages take on H200 beside their links.
  Fabric fabric{.backend = Backend::cuda, .ranks = ranks.count(), .launch_ns = 1250, .resources = {}, .links = {}, .staged = {}};
  int multiprocessors = std::numeric_limits<int>::max();
  for (int rank = 0; rank < ranks.count(); ++rank) {
    for (int to = 0; to < ranks.count(); ++to) {
      const bool self = rank == to;
      fabric.links.push_back(link_of(ranks.direct(rank, to), ranks.rate(rank, to), self ? Routes::Route{} : routes.route(rank, to)));
      fabric.links.back().pulled = ranks.pulled(rank, to);
      fabric.links.back().root = ranks.through_root(rank, to);
      fabric.links.back().unproved = ranks.unproved(rank, to);
      fabric.staged.push_back(link_of(self, ranks.staged(rank, to), self ? Routes::Route{} : routes.staged(rank, to)));
    }
    multiprocessors = std::min(multiprocessors, ranks.gpu(rank).multiprocessors);
    fabric.ranks_per_device = std::max(fabric.ranks_per_device, static_cast<std::uint32_t>(ranks.on_gpu_of(rank)));
  }
  fabric.resources = routes.take_resources();
  fabric.multiprocessors = static_cast<std::uint32_t>(multiprocessors);
  return fabric;
}

Fabric host_fabric(int ranks) {
  require(ranks >= 1 && ranks <= max_ranks, [&] { return fmt::format("expected 1 to {} ranks, found {}", max_ranks, ranks); });
  // A core copies about 8 GB/s to memory that others read, and a line crosses a socket in about 300 ns. One thread a rank
  // sends everything, so all its peers together get no more than one.
  constexpr Rate core{.gb_per_s = 8, .latency_us = 0.3};
  Fabric fabric{.backend = Backend::host, .ranks = ranks, .launch_ns = 20'000, .resources = {}, .links = {}, .staged = {}};
  for (int rank = 0; rank < ranks; ++rank) {
    fabric.resources.push_back({ResourceKind::core_out, rank, rank, thousandths(core.gb_per_s)});
    fabric.resources.push_back({ResourceKind::core_in, rank, rank, thousandths(core.gb_per_s)});
  }
  for (int from = 0; from < ranks; ++from)
    for (int to = 0; to < ranks; ++to) {
      std::vector<std::uint16_t> route;
      if (from != to) route = {static_cast<std::uint16_t>(2 * from), static_cast<std::uint16_t>(2 * to + 1)};
      fabric.links.push_back(link_of(true, core, route));
      fabric.staged.push_back(link_of(from == to, core, route));
    }
  return fabric;
}

// The latency is that of fabric_ranks.cpp.
void pull_pairs(Fabric& fabric, const std::function<bool(int, int)>& pulled) {
  for (int a = 0; a < fabric.ranks; ++a)
    for (int b = a + 1; b < fabric.ranks; ++b) {
      if (!fabric.link(a, b).direct || !fabric.link(b, a).direct || !pulled(a, b)) continue;
      for (const auto place : {fabric.index(a, b), fabric.index(b, a)}) {
        FabricLink& link = fabric.links[place];
        link.direct = link.unproved = false;
        link.pulled = true;
        link.latency_ns += fabric.staged[place].latency_ns;
      }
    }
}

Fabric without_pulls(Fabric fabric) {
  for (std::size_t place = 0; place < fabric.links.size(); ++place)
    if (fabric.links[place].pulled) fabric.links[place] = fabric.staged[place];
  return fabric;
}

void apply_peer_policy(Fabric& fabric, const std::function<bool(int, int)>& refused) {
  for (int a = 0; a < fabric.ranks; ++a)
    for (int b = a + 1; b < fabric.ranks; ++b) {
      if (!refused(a, b)) continue;
      for (const auto place : {fabric.index(a, b), fabric.index(b, a)}) fabric.links[place] = fabric.staged[place];
    }
}

}  // namespace collectives
