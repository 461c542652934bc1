#pragma once

#include <collectives/types.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace collectives {

/// How much a link's description is worth: read off a table or an API, timed, or proved by data checked at its destination.
enum class Evidence : std::uint8_t { claimed, measured, verified };

enum class NodeKind : std::uint8_t { gpu, cpu, pci_switch, host_bridge, nvswitch };
enum class LinkKind : std::uint8_t { nvlink, pcie, socket, memory };

/// A GPU, a NUMA node with its CPUs, or something between them. Fields that do not apply or are not known keep their default.
struct Node {
  NodeKind kind = NodeKind::gpu;
  std::string name;                ///< "NVIDIA H200", "NUMA 0", "PLX 8747"
  std::string pci;                 ///< full address, domain:bus:device.function, lower case
  std::string uuid;                ///< GPUs only
  int device = -1;                 ///< GPUs: the CUDA ordinal, -1 if CUDA cannot see it
  int numa = -1;                   ///< the NUMA node it is nearest to
  int compute_capability = 0;      ///< GPUs: 10 * major + minor
  int multiprocessors = 0;         ///< GPUs
  std::uint64_t memory_bytes = 0;  ///< GPUs and NUMA nodes
  std::uint64_t bar1_bytes = 0;    ///< GPUs: the window through which PCIe peers reach its memory
  int pcie_generation = 0;         ///< of its slot or uplink: the lesser of what the device and the port above it can do
  int pcie_width = 0;              ///< lanes, in the same way
  bool mig = false;                ///< GPUs: partitioned, which keeps peers away
  bool acs_redirect = false;       ///< PCIe switches and roots: they send what passes between two devices below up to the root
  bool operator==(const Node&) const = default;
};

/// A directed edge between two nodes, by their index.
struct Link {
  int from = 0;
  int to = 0;
  LinkKind kind = LinkKind::pcie;
  double gb_per_s = 0;    ///< one direction; 0 if not known
  double latency_us = 0;  ///< one-way flag latency; 0 if not known
  Evidence evidence = Evidence::claimed;
  bool operator==(const Link&) const = default;
};

/// What one GPU may do to another's memory, directed, by node index.
struct Peer {
  int from = 0;
  int to = 0;
  bool access = false;  ///< stores and loads reach the peer's memory
  bool pulled = false;  ///< what `from` has for `to` is read by `to` out of `from`'s memory: stores fail, or are far slower than that
  bool native_atomics = false;
  std::string path;       ///< NV18, PIX, PXB, PHB, NODE, SYS: as nvidia-smi names it; empty if not known
  double gb_per_s = 0;    ///< of one flow, as it is moved: without access through host memory, unless it is pulled; 0 if not known
  double latency_us = 0;  ///< 0 if not known
  Evidence evidence = Evidence::claimed;
  std::string reason;  ///< why there is no access, in words
  std::string remedy;  ///< what may be done about it, in one line
  bool operator==(const Peer&) const = default;
};

/// A machine as a graph, with the peer matrix on top. Plain data; `validate` says what is wrong with it.
struct Machine {
  std::string name;
  std::string driver;      ///< driver version, empty without one
  std::string hypervisor;  ///< what runs this virtual machine; empty on bare metal or if not known
  std::string iommu;       ///< "off", "passthrough" or "translated"; empty if not known
  std::vector<Node> nodes;
  std::vector<Link> links;
  std::vector<Peer> peers;
  bool operator==(const Machine&) const = default;

  /// Indices of the GPU nodes, in the order of their CUDA ordinals, those CUDA cannot see last.
  COLLECTIVES_EXPORT std::vector<int> gpus() const;
  /// The entry for this ordered pair of nodes, or null.
  COLLECTIVES_EXPORT const Peer* peer(int from, int to) const;
};

/// Throws Error(invalid_argument) that names the first node, link or peer out of range, duplicated or with a negative figure.
COLLECTIVES_EXPORT void validate(const Machine& machine);

/// This machine: CUDA's devices and peer attributes, NVML where its library is there, hwloc for NUMA nodes and PCI. Without a
/// GPU it holds the NUMA nodes alone. Throws nothing for what is missing; a source that fails leaves its fields empty.
COLLECTIVES_EXPORT Machine detect_machine();

/// A description of a machine in any of the formats that topology/README.md lists, recognised by its content: the project's own
/// JSON, nvidia-smi topo -m and -p2p, p2pBandwidthLatencyTest, NCCL's and hwloc's XML.
/// Throws Error(invalid_argument) with line, column and what was expected.
COLLECTIVES_EXPORT Machine read_machine_file(const std::string& path);
COLLECTIVES_EXPORT Machine machine_from_text(std::string_view text);

/// Puts what p2pBandwidthLatencyTest printed onto a machine that has these GPUs, found by PCI address or else by CUDA ordinal:
/// access, rates and latencies of its peers. Throws as above; the machine is then unchanged.
COLLECTIVES_EXPORT void add_measurements(Machine& machine, std::string_view text);

/// The project's own machine file. Throws as above.
COLLECTIVES_EXPORT Machine machine_from_json(std::string_view text);
/// Round-trips: machine_from_json(to_json(m)) equals m.
COLLECTIVES_EXPORT std::string to_json(const Machine& machine);

/// What NCCL reads from NCCL_TOPO_FILE: the tree of PCIe and the NVLinks. NUMA nodes have one root there, and of rates it keeps
/// PCIe generation and width. Throws Error(invalid_argument) for a GPU without a PCI address, by which NCCL finds it.
COLLECTIVES_EXPORT std::string to_nccl_xml(const Machine& machine);

/// The peer matrix as a table for people: a row and a column a GPU, each cell path, bandwidth and evidence.
COLLECTIVES_EXPORT std::string peer_table(const Machine& machine);

}  // namespace collectives
