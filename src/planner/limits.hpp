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

/// A value that a rank has for several others, which meet in host memory, is written there for each of them, in the receiver's memory, or offered
/// in the sender's, once for all.
enum class Staging : std::uint8_t { each, once };

/// The fabric of those who offer: what passes host memory lies near its sender, and its readers cross to it. All else is as it was.
Fabric offering_on(Fabric fabric);

/// All limits of a fabric, and those that each ordered pair of ranks is under. Where values are offered they are those of `offering_on`, and host
/// memory, which carries writings and readings, is on a way twice and carries twice as much.
class Limits {
 public:
  explicit Limits(const Fabric& fabric, Staging staging = Staging::each);

  int ranks() const { return ranks_; }
  int count() const { return static_cast<int>(limits_.size()); }
  const Limit& operator[](int index) const { return limits_[static_cast<std::size_t>(index)]; }
  /// By index, in the order in which a flow passes them.
  std::span<const int> on(int from, int to) const { return ways_[static_cast<std::size_t>(from * ranks_ + to)]; }
  /// The part of these that a value passes on to one more of several receivers: all of them, but where it is offered the reading alone.
  std::span<const int> reading(int from, int to) const { return on(from, to).subspan(written_[static_cast<std::size_t>(from * ranks_ + to)]); }
  /// Does the receiver read what the sender has for it in host memory, where others may read it too?
  bool offers(int from, int to) const { return written_[static_cast<std::size_t>(from * ranks_ + to)] > 0; }
  /// Does the pair's way lead through a CPU's PCIe root, without host memory?
  bool through_root(int from, int to) const { return root_[static_cast<std::size_t>(from * ranks_ + to)]; }

 private:
  int ranks_;
  std::vector<Limit> limits_;
  std::vector<std::vector<int>> ways_;
  std::vector<std::size_t> written_;  ///< how many of a way's limits are passed before a value lies where it is offered
  std::vector<bool> root_;
};

/// In MB/s, what a limit carries while a GPU only stores or only loads: a fast slot carries less of each while it carries both.
double alone_mb_per_s(const Limit& limit, const Fabric& fabric);

/// How much more a store of one value to this many peers at once through a CPU's root takes of what it passes, than one after the
/// other would.
double fan_out_strain(int peers);

/// "rank 3's PCIe slot, outgoing", or "one flow from rank 0 to rank 3"
std::string to_string(const Limit& limit, const Fabric& fabric);

}  // namespace collectives
