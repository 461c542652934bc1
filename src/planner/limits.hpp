#pragma once

#include <span>
#include <string>
#include <vector>

#include "topology/fabric.hpp"

namespace collectives {

/// Something that bounds what flows at once: a resource of the fabric, or one pair's flow where that is slower than its whole way.
struct Limit {
  std::uint32_t mb_per_s = 0;
  int resource = -1;  ///< of the fabric, -1 for a flow
  int from = 0;       ///< of a flow
  int to = 0;
};

/// All limits of a fabric, and those that each ordered pair of ranks is under.
class Limits {
 public:
  explicit Limits(const Fabric& fabric);

  int ranks() const { return ranks_; }
  int count() const { return static_cast<int>(limits_.size()); }
  const Limit& operator[](int index) const { return limits_[static_cast<std::size_t>(index)]; }
  /// By index, in the order in which a flow passes them.
  std::span<const int> on(int from, int to) const { return ways_[static_cast<std::size_t>(from * ranks_ + to)]; }
  /// Does the pair's way lead through a CPU's PCIe root, without host memory?
  bool through_root(int from, int to) const { return root_[static_cast<std::size_t>(from * ranks_ + to)]; }

 private:
  int ranks_;
  std::vector<Limit> limits_;
  std::vector<std::vector<int>> ways_;
  std::vector<bool> root_;
};

/// How much more a store of one value to this many peers at once through a CPU's root takes of what it passes, than one after the
/// other would.
double fan_out_strain(int peers);

/// "rank 3's PCIe slot, outgoing", or "one flow from rank 0 to rank 3"
std::string to_string(const Limit& limit, const Fabric& fabric);

}  // namespace collectives
