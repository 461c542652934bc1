#pragma once

#include <collectives/topology.hpp>
#include <collectives/types.hpp>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace collectives {

/// What one rank can do to another, in whole numbers so that every process computes the same from it.
struct FabricLink {
  bool direct = false;           ///< stores reach the peer's pool without the host
  std::uint32_t mb_per_s = 0;    ///< one flow
  std::uint32_t latency_ns = 0;  ///< one-way, store to poll
  bool operator==(const FabricLink&) const = default;
};

/// The machine as the planner sees it: ranks and the ordered pairs of them. Rank 0's is broadcast at creation, and every rank
/// plans on that copy.
struct Fabric {
  Backend backend = Backend::host;
  int ranks = 0;
  std::uint32_t port_mb_per_s = 0;     ///< what one rank sends to all its peers together
  std::uint32_t launch_ns = 0;         ///< a call's fixed cost
  std::uint32_t ranks_per_device = 1;  ///< the most ranks that share one GPU
  std::uint32_t multiprocessors = 0;   ///< of the smallest GPU
  std::vector<FabricLink> links;       ///< [from * ranks + to]
  bool operator==(const Fabric&) const = default;

  const FabricLink& link(int from, int to) const { return links[static_cast<std::size_t>(from * ranks + to)]; }
  /// Does every rank reach every other directly?
  bool fully_connected() const;
};

/// The ranks on these GPUs (CUDA ordinals, one a rank, repeats allowed). Unknown bandwidths and latencies get the prior of
/// their path. Throws Error(invalid_argument) for a device the machine does not have.
Fabric fabric_of(const Machine& machine, std::span<const int> devices);

/// Ranks as threads or processes of this machine's CPUs.
Fabric host_fabric(int ranks);

/// Makes both directions of every pair of ranks that `refused(a, b)` names, for a < b, as slow as the way through host
/// memory and no longer direct.
void apply_peer_policy(Fabric& fabric, const std::function<bool(int, int)>& refused);

/// Fixed little-endian bytes; `fabric_from_bytes` throws Error(invalid_argument) for anything else.
std::vector<std::uint8_t> to_bytes(const Fabric& fabric);
Fabric fabric_from_bytes(std::span<const std::uint8_t> bytes);

}  // namespace collectives
