#pragma once

#include <cstdint>
#include <map>
#include <tuple>
#include <vector>

#include "topology/fabric.hpp"
#include "topology/fabric_ranks.hpp"

namespace collectives {

/// The ways between ranks over what they share: NVLink ports where a switch shares them out, else PCIe from slot to slot over
/// the links of the machine, or over the slots alone where it does not say more.
class Routes {
 public:
  using Route = std::vector<std::uint16_t>;

  explicit Routes(const FabricRanks& ranks);

  /// As the two reach each other.
  Route route(int from, int to);
  /// Through the memory of the receiver's NUMA node: posted there by the sender, read by the receiver.
  Route staged(int from, int to);

  /// What the routes so far lead over.
  std::vector<Resource> take_resources() { return std::move(resources_); }

 private:
  struct Way {
    int from;
    int to;
    bool through_memory;  ///< of the host
    Route route;
  };

  void use(Way& way, ResourceKind kind, int first_node, int second_node, double gb_per_s);
  void walk(Way& way, int from_node, int to_node);
  void use_link(Way& way, int link);
  void between_slots(Way& way);
  double memory_slots() const;
  double port_gb_per_s(int rank) const;
  int nearest_cpu(int rank) const;

  const FabricRanks& ranks_;
  std::vector<Resource> resources_;
  std::map<std::tuple<ResourceKind, int, int>, std::uint16_t> known_;
  std::map<int, std::vector<int>> trees_;  ///< by the node it spreads from: the link by which each node was reached, or -1
};

}  // namespace collectives
