#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/cuda.hpp"
#include "topology/assemble.hpp"
#include "topology/detect.hpp"
#include "topology/graph.hpp"
#include "topology/refusals.hpp"

namespace collectives {
namespace {

/// Forgets a failure, so that the next, unrelated check does not find it.
bool worked(cudaError_t result) {
  if (result != cudaSuccess) (void)cudaGetLastError();
  return result == cudaSuccess;
}

int attribute(cudaDeviceAttr which, int device, int otherwise) {
  int value = 0;
  return worked(cudaDeviceGetAttribute(&value, which, device)) ? value : otherwise;
}

/// As nvidia-smi and NVML write it.
std::string uuid_text(const cudaUUID_t& uuid) {
  std::string text = "GPU-";
  for (int i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", static_cast<unsigned char>(uuid.bytes[i]));
  }
  return text;
}

/// By attributes: the address that CUDA gives as text is cut to 16 bits of domain by some versions.
std::string pci_of(int device) {
  const int domain = attribute(cudaDevAttrPciDomainId, device, 0);
  const int bus = attribute(cudaDevAttrPciBusId, device, -1);
  const int slot = attribute(cudaDevAttrPciDeviceId, device, -1);
  if (bus < 0 || slot < 0) return "";
  return pci_address(static_cast<std::uint32_t>(domain), static_cast<std::uint32_t>(bus), static_cast<std::uint32_t>(slot), 0);
}

Node describe(int device) {
  Node node;
  node.kind = NodeKind::gpu;
  node.device = device;
  node.pci = pci_of(device);
  node.multiprocessors = attribute(cudaDevAttrMultiProcessorCount, device, 0);
  node.compute_capability =
      10 * attribute(cudaDevAttrComputeCapabilityMajor, device, 0) + attribute(cudaDevAttrComputeCapabilityMinor, device, 0);
  cudaDeviceProp properties{};
  if (worked(cudaGetDeviceProperties(&properties, device))) {
    node.name = properties.name;
    node.uuid = uuid_text(properties.uuid);
    node.memory_bytes = properties.totalGlobalMem;
  }
  return node;
}

/// `peer` is an entry of `machine`, whose devices these are.
void describe_peer(const Machine& machine, Peer& peer, int from, int to) {
  int access = 0;
  if (!worked(cudaDeviceCanAccessPeer(&access, from, to))) {
    peer.reason = "CUDA did not answer whether it can";
    peer.remedy = "look for NVRM lines in the kernel's log (dmesg)";
    return;
  }
  peer.access = access != 0;
  if (!peer.access) {
    const Refusal refusal =
        refusal_of({}, machine, machine.nodes[static_cast<std::size_t>(peer.from)], machine.nodes[static_cast<std::size_t>(peer.to)]);
    peer.reason = refusal.reason;
    peer.remedy = refusal.remedy;
  }
  int atomics = 0;
  if (worked(cudaDeviceGetP2PAttribute(&atomics, cudaDevP2PAttrNativeAtomicSupported, from, to))) peer.native_atomics = atomics != 0;
}

}  // namespace

void add_cuda(Machine& machine) {
  std::vector<int> nodes;
  const int count = cuda_device_count();
  for (int device = 0; device < count; ++device) {
    Node node = describe(device);
    // Instances of one partitioned GPU share its address; the first keeps it.
    for (const Node& other : machine.nodes) {
      if (other.pci == node.pci) node.pci.clear();
      if (other.uuid == node.uuid) node.uuid.clear();
    }
    nodes.push_back(add_node(machine, std::move(node)));
  }
  for (int from = 0; from < count; ++from)
    for (int to = 0; to < count; ++to)
      if (from != to)
        describe_peer(machine, peer_entry(machine, nodes[static_cast<std::size_t>(from)], nodes[static_cast<std::size_t>(to)]), from, to);
}

}  // namespace collectives
