#pragma once

#include <collectives/topology.hpp>

namespace collectives {

/// Whether a machine file must give a field, or may leave it at its default.
enum class Presence : std::uint8_t { required, optional };

/// Calls `visit(name, member, presence)` for every field of an element of a machine file, in the order they are written.
/// Reader and writer share these lists, so a field is either in both or in neither.
template <typename AnyNode, typename Visitor>
requires std::is_same_v<std::remove_const_t<AnyNode>, Node>
void for_each_field(AnyNode& node, Visitor visit) {
  visit("kind", node.kind, Presence::required);
  visit("name", node.name, Presence::optional);
  visit("pci", node.pci, Presence::optional);
  visit("uuid", node.uuid, Presence::optional);
  visit("device", node.device, Presence::optional);
  visit("numa", node.numa, Presence::optional);
  visit("compute_capability", node.compute_capability, Presence::optional);
  visit("multiprocessors", node.multiprocessors, Presence::optional);
  visit("memory_bytes", node.memory_bytes, Presence::optional);
  visit("bar1_bytes", node.bar1_bytes, Presence::optional);
  visit("pcie_generation", node.pcie_generation, Presence::optional);
  visit("pcie_width", node.pcie_width, Presence::optional);
  visit("mig", node.mig, Presence::optional);
  visit("acs_redirect", node.acs_redirect, Presence::optional);
}

template <typename AnyLink, typename Visitor>
requires std::is_same_v<std::remove_const_t<AnyLink>, Link>
void for_each_field(AnyLink& link, Visitor visit) {
  visit("from", link.from, Presence::required);
  visit("to", link.to, Presence::required);
  visit("kind", link.kind, Presence::required);
  visit("gb_per_s", link.gb_per_s, Presence::optional);
  visit("latency_us", link.latency_us, Presence::optional);
  visit("evidence", link.evidence, Presence::optional);
}

template <typename AnyPeer, typename Visitor>
requires std::is_same_v<std::remove_const_t<AnyPeer>, Peer>
void for_each_field(AnyPeer& peer, Visitor visit) {
  visit("from", peer.from, Presence::required);
  visit("to", peer.to, Presence::required);
  visit("access", peer.access, Presence::optional);
  visit("pulled", peer.pulled, Presence::optional);
  visit("native_atomics", peer.native_atomics, Presence::optional);
  visit("path", peer.path, Presence::optional);
  visit("gb_per_s", peer.gb_per_s, Presence::optional);
  visit("latency_us", peer.latency_us, Presence::optional);
  visit("evidence", peer.evidence, Presence::optional);
  visit("reason", peer.reason, Presence::optional);
  visit("remedy", peer.remedy, Presence::optional);
}

/// The texts of the machine itself, beside its lists.
template <typename AnyMachine, typename Visitor>
requires std::is_same_v<std::remove_const_t<AnyMachine>, Machine>
void for_each_text(AnyMachine& machine, Visitor visit) {
  visit("name", machine.name);
  visit("driver", machine.driver);
  visit("hypervisor", machine.hypervisor);
  visit("iommu", machine.iommu);
}

}  // namespace collectives
