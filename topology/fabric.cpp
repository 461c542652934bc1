// From the graph of a machine to the whole numbers that plans depend on. Figures of the machine are taken where it has them;
// elsewhere the path's prior stands in.
#include "topology/fabric.hpp"

#include <fmt/format.h>
#include <collectives/communicator.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/require.hpp"
#include "topology/priors.hpp"

namespace collectives {
namespace {

/// Rounded and within 32 bits; a rate is never 0, which would make a plan's time infinite.
std::uint32_t whole(double value) {
  constexpr double greatest = std::numeric_limits<std::uint32_t>::max();
  return static_cast<std::uint32_t>(std::llround(std::clamp(value, 1.0, greatest)));
}

FabricLink link_of(bool direct, Rate rate) { return {direct, whole(rate.gb_per_s * 1000), whole(rate.latency_us * 1000)}; }

/// The machine from the side of its ranks.
class Ranks {
 public:
  Ranks(const Machine& machine, std::span<const int> devices) : machine_(machine) {
    require(!devices.empty() && devices.size() <= static_cast<std::size_t>(max_ranks),
            [&] { return fmt::format("expected 1 to {} ranks, found {}", max_ranks, devices.size()); });
    for (const int device : devices) nodes_.push_back(node_of(device));
  }

  int count() const { return static_cast<int>(nodes_.size()); }
  const Node& gpu(int rank) const { return machine_.nodes[index(rank)]; }
  bool share_gpu(int a, int b) const { return index(a) == index(b); }

  int on_gpu_of(int rank) const {
    return static_cast<int>(std::count(nodes_.begin(), nodes_.end(), nodes_[static_cast<std::size_t>(rank)]));
  }

  bool direct(int a, int b) const {
    if (share_gpu(a, b)) return true;
    const Peer* there = peer(a, b);
    const Peer* back = peer(b, a);
    return there && back && there->access && back->access;
  }

  /// Empty for ranks on one GPU and for what the machine does not say.
  std::string_view path(int a, int b) const {
    const Peer* entry = peer(a, b);
    return entry ? std::string_view(entry->path) : std::string_view();
  }

  Rate rate(int a, int b) const {
    if (share_gpu(a, b)) return local_rate;
    const int chip = std::min(gpu(a).compute_capability, gpu(b).compute_capability);
    const double slot = std::min(slot_of(a), slot_of(b));
    Rate rate = direct(a, b) ? direct_rate(path(a, b), chip, slot) : staged_rate(slot);
    // An entry without access both ways describes a path that will not be taken: its figures say nothing of the one that will.
    if (const Peer* entry = peer(a, b); entry && direct(a, b)) {
      if (entry->gb_per_s > 0) rate.gb_per_s = entry->gb_per_s;
      if (entry->latency_us > 0) rate.latency_us = entry->latency_us;
    }
    return rate;
  }

 private:
  std::size_t index(int rank) const { return static_cast<std::size_t>(nodes_[static_cast<std::size_t>(rank)]); }
  const Peer* peer(int a, int b) const { return machine_.peer(static_cast<int>(index(a)), static_cast<int>(index(b))); }

  int node_of(int device) const {
    const auto gpus = machine_.gpus();
    for (const int node : gpus)
      if (device >= 0 && machine_.nodes[static_cast<std::size_t>(node)].device == device) return node;
    throw Error(ErrorCode::invalid_argument, fmt::format("this machine has no CUDA device {}; it has {} GPUs", device, gpus.size()));
  }

  double slot_of(int rank) const {
    double slot = 0;
    for (const Link& link : machine_.links)
      if (link.kind == LinkKind::pcie && link.from == static_cast<int>(index(rank))) slot = std::max(slot, link.gb_per_s);
    return slot > 0 ? slot : usual_slot_gb_per_s(gpu(rank).compute_capability);
  }

  const Machine& machine_;
  std::vector<int> nodes_;
};

/// Seconds for `rank` to send 1 GB to each rank it reaches by NVLink. A mesh gives each peer its own links; where the links
/// to all peers are more than the GPU has, a switch shares them out.
double nvlink_seconds(const Ranks& ranks, int rank) {
  double slowest = 0, total_flow = 0;
  int peers = 0, links = 0, most = 0;
  for (int other = 0; other < ranks.count(); ++other) {
    const int own_links = nvlinks_of(ranks.path(rank, other));
    if (own_links == 0 || !ranks.direct(rank, other)) continue;
    const double flow = ranks.rate(rank, other).gb_per_s;
    slowest = std::max(slowest, 1 / flow);
    ++peers;
    most = std::max(most, own_links);
    bool counted = false;  // ranks that share a GPU are reached over the same links
    for (int before = 0; before < other; ++before) counted = counted || ranks.share_gpu(before, other);
    if (!counted) {
      links += own_links;
      total_flow += flow;
    }
  }
  if (peers == 0) return 0;
  const int known = nvlinks_per_gpu(ranks.gpu(rank).compute_capability);
  const int owned = known > 0 ? known : (most >= 6 ? most : links);
  const double port = links > owned ? total_flow * owned / links * switched_share : total_flow;
  return std::max(slowest, peers / port) * ranks.on_gpu_of(rank);
}

/// The same for those it reaches through its one PCIe slot, directly or by way of host memory.
double slot_seconds(const Ranks& ranks, int rank) {
  double seconds = 0;
  int through_root = 0;
  for (int other = 0; other < ranks.count(); ++other) {
    if (ranks.share_gpu(rank, other)) continue;
    if (ranks.direct(rank, other) && nvlinks_of(ranks.path(rank, other)) > 0) continue;
    seconds += 1 / ranks.rate(rank, other).gb_per_s;
    if (ranks.direct(rank, other) && crosses_root(ranks.path(rank, other))) ++through_root;
  }
  return seconds / (through_root > 1 ? root_share : 1) * ranks.on_gpu_of(rank);
}

/// Equal shares go to all peers at once over NVLink, the slot and the GPU's own memory, so the slowest of the three decides.
double port_gb_per_s(const Ranks& ranks, int rank) {
  const int peers = ranks.count() - 1;
  if (peers == 0) return local_rate.gb_per_s;
  const double local = (ranks.on_gpu_of(rank) - 1) / local_rate.gb_per_s;
  return peers / std::max({nvlink_seconds(ranks, rank), slot_seconds(ranks, rank), local});
}

}  // namespace

bool Fabric::fully_connected() const {
  for (int from = 0; from < ranks; ++from)
    for (int to = 0; to < ranks; ++to)
      if (from != to && !link(from, to).direct) return false;
  return true;
}

Fabric fabric_of(const Machine& machine, std::span<const int> devices) {
  validate(machine);
  const Ranks ranks(machine, devices);
  Fabric fabric{.backend = Backend::cuda, .ranks = ranks.count(), .launch_ns = 2000, .links = {}};
  double port = std::numeric_limits<double>::max();
  int multiprocessors = std::numeric_limits<int>::max();
  for (int rank = 0; rank < ranks.count(); ++rank) {
    for (int to = 0; to < ranks.count(); ++to) fabric.links.push_back(link_of(ranks.direct(rank, to), ranks.rate(rank, to)));
    port = std::min(port, port_gb_per_s(ranks, rank));
    multiprocessors = std::min(multiprocessors, ranks.gpu(rank).multiprocessors);
    fabric.ranks_per_device = std::max(fabric.ranks_per_device, static_cast<std::uint32_t>(ranks.on_gpu_of(rank)));
  }
  fabric.port_mb_per_s = whole(port * 1000);
  fabric.multiprocessors = static_cast<std::uint32_t>(multiprocessors);
  return fabric;
}

Fabric host_fabric(int ranks) {
  require(ranks >= 1 && ranks <= max_ranks, [&] { return fmt::format("expected 1 to {} ranks, found {}", max_ranks, ranks); });
  // A core copies about 8 GB/s to memory that others read, and a line crosses a socket in about 300 ns. One thread a rank
  // sends everything, so all its peers together get no more than one.
  Fabric fabric{.backend = Backend::host, .ranks = ranks, .port_mb_per_s = 8000, .launch_ns = 20'000, .links = {}};
  fabric.links.assign(static_cast<std::size_t>(ranks * ranks), link_of(true, {.gb_per_s = 8, .latency_us = 0.3}));
  return fabric;
}

void apply_peer_policy(Fabric& fabric, const std::function<bool(int, int)>& refused) {
  const FabricLink staged = link_of(false, staged_rate(usual_slot_gb_per_s(0)));
  for (int a = 0; a < fabric.ranks; ++a)
    for (int b = a + 1; b < fabric.ranks; ++b) {
      if (!refused(a, b)) continue;
      for (const auto place : {a * fabric.ranks + b, b * fabric.ranks + a}) {
        FabricLink& link = fabric.links[static_cast<std::size_t>(place)];
        link = {false, std::min(link.mb_per_s, staged.mb_per_s), std::max(link.latency_ns, staged.latency_ns)};
      }
    }
}

}  // namespace collectives
