#pragma once

#include <collectives/topology.hpp>
#include <limits>
#include <string>
#include <vector>

namespace collectives {

/// The ways between nodes that take no NVLink, as nvidia-smi names them.
class PciePaths {
 public:
  explicit PciePaths(const Machine& machine);

  /// From one node to each: PIX, PXB, PHB, NODE or SYS; empty for those it is not joined to.
  std::vector<std::string> from(int node) const;
  /// What the narrowest PCIe link on the way to each carries, of those whose rate is known; infinite if there is none.
  std::vector<double> narrowest_from(int node) const;

 private:
  /// What a way has gone through so far.
  struct Way {
    bool reached = false;
    int switches = 0;
    bool root = false, cpu = false, socket = false;
    double gb_per_s = std::numeric_limits<double>::infinity();
  };
  std::vector<Way> ways_from(int node) const;
  Way extended(const Way& way, const Link& link) const;
  static const char* name_of(const Way& way);

  const Machine& machine_;
  std::vector<std::vector<const Link*>> links_;  ///< by the node they leave
};

}  // namespace collectives
