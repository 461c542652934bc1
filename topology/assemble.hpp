#pragma once

#include <collectives/topology.hpp>
#include <map>
#include <utility>

#include "topology/source_text.hpp"

namespace collectives {

/// What importers and detection put a machine together with.

/// Boxes hold 16 GPUs; descriptions of more than this are taken for broken.
inline constexpr std::size_t max_described_gpus = 64;

/// Adds a node and returns its index.
int add_node(Machine& machine, Node node);

/// Links two nodes in both directions. What they have of this kind already grows by the rate, so that NVLinks add up.
void join(Machine& machine, int a, int b, LinkKind kind, double gb_per_s);

/// The entry for an ordered pair of GPUs, added if there is none.
Peer& peer_entry(Machine& machine, int from, int to);

/// The nvswitch node, added at the first call: one stands for all, since nothing that a plan uses tells them apart.
int nvswitch_of(Machine& machine);

/// NVLinks from one node to another, by their indices. Importers count them, since links know only rates.
using NvlinkCounts = std::map<std::pair<int, int>, unsigned>;

/// An entry for every ordered pair of GPUs, with its path by NVLinks or else by what lies between the two over PCIe. A
/// description that shows paths and says nothing of access is taken to claim it.
void claim_peers(Machine& machine, const NvlinkCounts& counts);

/// Links between all NUMA nodes.
void join_sockets(Machine& machine);

/// Puts priors where a link, or a peer with access, has no rate. Peers need their slots, so links come first.
void complete_rates(Machine& machine);

/// The last step of every importer: a fault of the graph becomes an error at `offset`.
void check_consistent(const Machine& machine, const SourceText& source, std::size_t offset = 0);

/// All of that, for a description that is a tree of devices: sockets, peers, rates, and the check.
void complete_tree(Machine& machine, const NvlinkCounts& counts, const SourceText& source);

}  // namespace collectives
