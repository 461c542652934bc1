// Ranks and limits as a flow network: a limit is an edge between two nodes of its own, and a pair of ranks leads from one to the
// other through its limits, one after the other. Flows may change over at a limit where ways may not, so the network carries all
// that the machine can, and its cuts are bounds.
#include "planner/bound.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <set>
#include <vector>

#include "planner/flow.hpp"

namespace collectives {
namespace {

enum class Direction : std::uint8_t { out, in };

class CutFinder {
 public:
  CutFinder(const Limits& limits, Direction direction) : limits_(limits), network_(limits.ranks() + 2 + 2 * limits.count()) {
    std::int64_t total = 0;
    for (int i = 0; i < limits.count(); ++i) total += limits[i].mb_per_s;
    unlimited_ = (total + 1) * 64;
    for (int i = 0; i < limits.count(); ++i) limit_edges_.push_back(network_.add_edge(entry(i), exit(i), 0));
    for (int from = 0; from < limits.ranks(); ++from)
      for (int to = 0; to < limits.ranks(); ++to)
        if (from != to)
          add_way(direction == Direction::out ? from : to, direction == Direction::out ? to : from, limits.on(from, to), direction);
    for (int rank = 0; rank < limits.ranks(); ++rank) source_edges_.push_back(network_.add_edge(source(), rank, 0));
    for (int rank = 0; rank < limits.ranks(); ++rank) sink_edges_.push_back(network_.add_edge(rank, sink(), 0));
  }

  /// A cut whose ratio of bandwidth to ranks is below that of `best`, or `best` itself.
  Cut narrower(const Cut& best) {
    const auto n = static_cast<std::int64_t>(limits_.ranks());
    const auto bandwidth = static_cast<std::int64_t>(best.mb_per_s);
    set_capacities(best.ranks, bandwidth);
    for (int sink = 0; sink < limits_.ranks(); ++sink) {
      const std::int64_t flow = network_.max_flow(source(), sink);
      if (flow >= n * bandwidth) continue;
      Cut cut = side_of_source();
      cut.mb_per_s = static_cast<std::uint64_t>((flow - (n - cut.ranks) * bandwidth) / best.ranks);
      return cut;
    }
    return best;
  }

  /// The least cut between two ranks.
  Cut between(int from, int to) {
    set_capacities(1, 0);
    const std::int64_t flow = network_.max_flow(from, to);
    Cut cut = side_of_source();
    cut.mb_per_s = static_cast<std::uint64_t>(flow);
    return cut;
  }

  /// What can leave these ranks.
  Cut around(std::uint32_t inside) {
    set_capacities(1, 0);
    for (int rank = 0; rank < limits_.ranks(); ++rank) {
      const bool within = (inside >> rank & 1) != 0;
      network_.set_capacity(source_edges_[static_cast<std::size_t>(rank)], within ? unlimited_ : 0);
      network_.set_capacity(sink_edges_[static_cast<std::size_t>(rank)], within ? 0 : unlimited_);
    }
    const std::int64_t flow = network_.max_flow(source(), sink());
    for (const int edge : sink_edges_) network_.set_capacity(edge, 0);
    return {.inside = inside, .ranks = std::popcount(inside), .mb_per_s = static_cast<std::uint64_t>(flow)};
  }

 private:
  int source() const { return limits_.ranks(); }
  int sink() const { return limits_.ranks() + 1; }
  int entry(int limit) const { return limits_.ranks() + 2 + 2 * limit; }
  int exit(int limit) const { return entry(limit) + 1; }

  void add_way(int from, int to, std::span<const int> way, Direction direction) {
    int node = from;
    for (std::size_t i = 0; i < way.size(); ++i) {
      const int limit = direction == Direction::out ? way[i] : way[way.size() - 1 - i];
      network_.add_edge(node, entry(limit), unlimited_);
      node = exit(limit);
    }
    network_.add_edge(node, to, unlimited_);
  }

  void set_capacities(std::int64_t scale, std::int64_t from_source) {
    for (int i = 0; i < limits_.count(); ++i) network_.set_capacity(limit_edges_[static_cast<std::size_t>(i)], scale * limits_[i].mb_per_s);
    for (const int edge : source_edges_) network_.set_capacity(edge, from_source);
  }

  Cut side_of_source() const {
    const auto side = network_.source_side();
    Cut cut;
    for (int rank = 0; rank < limits_.ranks(); ++rank)
      if (side[static_cast<std::size_t>(rank)]) cut.inside |= 1u << rank;
    cut.ranks = std::popcount(cut.inside);
    return cut;
  }

  const Limits& limits_;
  FlowNetwork network_;
  std::int64_t unlimited_ = 0;  ///< more than all limits together
  std::vector<int> limit_edges_;
  std::vector<int> source_edges_;
  std::vector<int> sink_edges_;
};

Cut narrowest_a_rank(const Limits& limits, Direction direction) {
  CutFinder finder(limits, direction);
  Cut best = finder.between(0, 1);
  for (;;) {
    const Cut next = finder.narrower(best);
    if (next == best) return best;
    best = next;
  }
}

}  // namespace

Cut all_gather_cut(const Limits& limits) { return narrowest_a_rank(limits, Direction::out); }

Cut reduce_scatter_cut(const Limits& limits) { return narrowest_a_rank(limits, Direction::in); }

Cut all_reduce_cut(const Limits& limits) {
  CutFinder finder(limits, Direction::out);
  Cut best = finder.between(0, 1);
  for (int rank = 1; rank < limits.ranks(); ++rank)
    for (const Cut& cut : {finder.between(0, rank), finder.between(rank, 0)})
      if (cut.mb_per_s < best.mb_per_s) best = cut;
  return best;
}

double crossing_us(const Limits& limits, const std::function<double(std::uint32_t inside)>& bytes_leaving) {
  CutFinder finder(limits, Direction::out);
  const std::uint32_t all = (1u << limits.ranks()) - 1;
  double longest = 0;
  const auto look_at = [&](const Cut& cut) { longest = std::max(longest, bytes_leaving(cut.inside) / static_cast<double>(cut.mb_per_s)); };
  std::set<std::uint32_t> sides;
  std::vector<std::uint32_t> before(static_cast<std::size_t>(limits.count()), 0), behind(before);
  for (int from = 0; from < limits.ranks(); ++from) {
    sides.insert({1u << from, all ^ 1u << from});
    for (int to = 0; to < limits.ranks(); ++to) {
      if (to == from) continue;
      look_at(finder.between(from, to));
      for (const int limit : limits.on(from, to)) {
        before[static_cast<std::size_t>(limit)] |= 1u << from;
        behind[static_cast<std::size_t>(limit)] |= 1u << to;
      }
    }
  }
  for (int limit = 0; limit < limits.count(); ++limit)
    if (limits[limit].resource >= 0) sides.insert({before[static_cast<std::size_t>(limit)], all ^ behind[static_cast<std::size_t>(limit)]});
  for (const std::uint32_t side : sides)
    if (side != 0 && side != all) look_at(finder.around(side));
  return longest;
}

double gap_of(double us, double bound_us) {
  const double ratio = us / bound_us;
  return std::abs(ratio - 1) < 1e-6 ? 0 : ratio - 1;
}

}  // namespace collectives
