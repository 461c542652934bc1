#pragma once

#include <collectives/topology.hpp>
#include <string>
#include <vector>

namespace collectives {

/// The ways between nodes that take no NVLink, as nvidia-smi names them.
class PciePaths {
 public:
  explicit PciePaths(const Machine& machine);

  /// From one node to each: PIX, PXB, PHB, NODE or SYS; empty for those it is not joined to.
  std::vector<std::string> from(int node) const;

 private:
  /// What a way has gone through so far.
  struct Way {
    bool reached = false;
    int switches = 0;
    bool root = false, cpu = false, socket = false;
  };
  Way extended(const Way& way, const Link& link) const;
  static const char* name_of(const Way& way);

  const Machine& machine_;
  std::vector<std::vector<const Link*>> links_;  ///< by the node they leave
};

}  // namespace collectives
