#pragma once

#include <collectives/topology.hpp>
#include <vector>

namespace collectives {

/// A machine while it is being put together from its sources.
struct Detection {
  Machine machine;
  std::vector<double> slot_gb_per_s;  ///< by node index, for GPUs: what stores reach through the slot; 0 if not known

  /// Adds a node and returns its index.
  int add(Node node);
  /// The entry for an ordered pair, added if there is none.
  Peer& peer(int from, int to);
  double slot(int node) const;
};

/// The sources, in the order in which they build on each other. Each adds what it finds and throws nothing for what it does
/// not: a call that fails leaves its field at the default.
void add_cuda(Detection& detection);
void add_nvml(Detection& detection);
void add_hwloc(Detection& detection);

/// A nominal NVLink of this rate, as a driver claims it.
Link nvlink(int from, int to, double gb_per_s);

/// Joins the parts: rates for the paths that peer access takes, links between GPUs and their NUMA nodes.
void complete(Detection& detection);

}  // namespace collectives
