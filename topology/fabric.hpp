#pragma once

#include <collectives/topology.hpp>
#include <collectives/types.hpp>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace collectives {

/// One direction of something that flows share.
enum class ResourceKind : std::uint8_t { gpu_memory, nvlink, port_out, port_in, slot_out, slot_in, pcie, root, socket, host_memory, core_out, core_in };

/// Named by the first pair of ranks whose way leads over it, in ascending order, so that no index of a machine is in it.
struct Resource {
  ResourceKind kind = ResourceKind::slot_out;
  int from = 0;
  int to = 0;
  std::uint32_t mb_per_s = 0;  ///< all flows together; of host memory, what is written and read again
  bool operator==(const Resource&) const = default;
};

/// "rank 3's PCIe slot, outgoing"
std::string to_string(const Resource& resource);

/// What one rank can do to another, in whole numbers so that every process computes the same from it.
struct FabricLink {
  bool direct = false;           ///< stores reach the peer's pool without the host
  bool pulled = false;           ///< they do not, or slowly, but the peer's loads reach this rank's pool: it reads
  bool root = false;             ///< they do so through a CPU's PCIe root
  bool unproved = false;         ///< direct between two GPUs, and nothing shows so far that data arrive
  std::uint32_t mb_per_s = 0;    ///< one flow
  std::uint32_t latency_ns = 0;  ///< one-way, store to poll
  std::vector<std::uint16_t> route{};  ///< the resources on the way, by index, each once
  bool operator==(const FabricLink&) const = default;

  /// What is under way does not lie in host memory.
  bool by_peer() const { return direct || pulled; }
  Handover handover() const { return direct ? Handover::push : pulled ? Handover::pull : Handover::host; }
};

/// The machine as the planner sees it: ranks, the ordered pairs of them, and what their ways share. Rank 0's is broadcast at
/// creation, and every rank plans on that copy.
struct Fabric {
  Backend backend = Backend::host;
  int ranks = 0;
  std::uint32_t launch_ns = 0;         ///< a call's fixed cost
  std::uint32_t ranks_per_device = 1;  ///< the most ranks that share one GPU
  std::uint32_t multiprocessors = 0;   ///< of the smallest GPU
  std::vector<Resource> resources;
  std::vector<FabricLink> links;   ///< [from * ranks + to], as they are used
  std::vector<FabricLink> staged;  ///< the same pairs through host memory
  bool operator==(const Fabric&) const = default;

  std::size_t index(int from, int to) const { return static_cast<std::size_t>(from * ranks + to); }
  const FabricLink& link(int from, int to) const { return links[index(from, to)]; }
  /// Does every rank reach every other directly?
  bool fully_connected() const;
  /// Does any rank read what another has for it?
  bool pulls() const;
  /// Does everything that ranks send each other lie in host memory?
  bool meets_on_host() const;
  /// Does anything that these two send each other lie in host memory?
  bool meet_on_host(int a, int b) const { return !link(a, b).by_peer() || !link(b, a).by_peer(); }
};

/// The ranks on these GPUs (CUDA ordinals, one a rank, repeats allowed). Unknown bandwidths and latencies get the prior of
/// their path. Throws Error(invalid_argument) for a device the machine does not have.
Fabric fabric_of(const Machine& machine, std::span<const int> devices);

/// Ranks as threads or processes of this machine's CPUs.
Fabric host_fabric(int ranks);

/// Sends both directions of every pair of ranks that `refused(a, b)` names, for a < b, through host memory.
void apply_peer_policy(Fabric& fabric, const std::function<bool(int, int)>& refused);

/// Lets both directions of every direct pair of ranks that `pulled(a, b)` names, for a < b, be read by the receiver instead.
void pull_pairs(Fabric& fabric, const std::function<bool(int, int)>& pulled);

/// The same ranks where what is read by its receiver goes through host memory instead.
Fabric without_pulls(Fabric fabric);

/// Fixed little-endian bytes; `fabric_from_bytes` throws Error(invalid_argument) for anything else.
std::vector<std::uint8_t> to_bytes(const Fabric& fabric);
Fabric fabric_from_bytes(std::span<const std::uint8_t> bytes);

}  // namespace collectives
