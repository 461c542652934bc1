#pragma once

#include <collectives/topology.hpp>
#include <span>
#include <string_view>
#include <vector>

#include "topology/priors.hpp"

namespace collectives {

/// A machine from the side of the ranks on its GPUs: which pairs reach each other, over what, and how fast one flow is.
class FabricRanks {
 public:
  /// Throws Error(invalid_argument) for a device the machine does not have, and for none or more than 16.
  FabricRanks(const Machine& machine, std::span<const int> devices);

  int count() const { return static_cast<int>(nodes_.size()); }
  const Machine& machine() const { return machine_; }
  int node(int rank) const { return nodes_[static_cast<std::size_t>(rank)]; }
  const Node& gpu(int rank) const { return machine_.nodes[static_cast<std::size_t>(node(rank))]; }
  bool share_gpu(int a, int b) const { return node(a) == node(b); }
  int on_gpu_of(int rank) const;

  /// Access is claimed both ways, and stores are good for both.
  bool direct(int a, int b) const;
  /// They are not, but b reads what a has for it.
  bool pulled(int a, int b) const;
  /// By stores or loads, and by NVLink, by its name or because no slot is as fast.
  bool by_nvlink(int a, int b) const;
  /// By stores, but neither by NVLink nor within PCIe switches.
  bool through_root(int a, int b) const { return !share_gpu(a, b) && direct(a, b) && !by_nvlink(a, b) && crosses_root(path(a, b)); }
  /// Directly, on the word of the driver or a file alone.
  bool unproved(int a, int b) const { return !share_gpu(a, b) && direct(a, b) && peer(a, b)->evidence != Evidence::verified; }
  /// Empty for ranks on one GPU and for what the machine does not say.
  std::string_view path(int a, int b) const;
  /// One flow as the two reach each other, and as they would through host memory.
  Rate rate(int a, int b) const;
  Rate staged(int a, int b) const;
  /// The slot of a rank's GPU: as the machine says, else the fastest flow measured through it, else what such a chip has.
  double slot_gb_per_s(int rank) const;

 private:
  const Peer* peer(int a, int b) const { return machine_.peer(node(a), node(b)); }
  int node_of(int device) const;
  double find_slot(int rank) const;

  const Machine& machine_;
  std::vector<int> nodes_;
  std::vector<double> slots_;
};

}  // namespace collectives
