#include "planner/rank_order.hpp"

#include <algorithm>
#include <numeric>

#include "base/integers.hpp"
#include "planner/cost.hpp"

namespace collectives {
namespace {

constexpr int most_exact_ranks = 6;

// Few enough for every round to count, many enough for the busiest limit to.
constexpr double bytes = 1 << 20, tiles = 8;

class RankOrderSearch {
 public:
  RankOrderSearch(const Schedule& positions, const Fabric& fabric, const Limits& limits, int fixed)
      : positions_(positions), placed_(positions), coster_(fabric, limits), fixed_(fixed) {}

  std::vector<int> run() {
    std::vector<int> natural(at(positions_.ranks));
    std::iota(natural.begin(), natural.end(), 0);
    best_ = natural;
    least_us_ = us_of(natural);
    if (positions_.ranks - fixed_ <= most_exact_ranks) {
      while (std::next_permutation(natural.begin() + fixed_, natural.end())) keep(natural, us_of(natural));
      return best_;
    }
    // Exchanges that change nothing, any of them: the ranks are all alike.
    if (!improve(natural)) return best_;
    improve(depth_first());
    return best_;
  }

 private:
  static bool better(double us, double than_us) { return us < than_us * (1 - 1e-9); }

  double us_of(const std::vector<int>& order) {
    for (std::size_t round = 0; round < positions_.rounds.size(); ++round)
      for (std::size_t i = 0; i < positions_.rounds[round].size(); ++i) {
        const Transfer& transfer = positions_.rounds[round][i];
        placed_.rounds[round][i].from = order[at(transfer.from)];
        placed_.rounds[round][i].to = order[at(transfer.to)];
      }
    return coster_.of(placed_).predicted_us(bytes, tiles, general_kernels);
  }

  void keep(const std::vector<int>& order, double us) {
    if (!better(us, least_us_)) return;
    best_ = order;
    least_us_ = us;
  }

  /// False if no exchange makes any difference.
  bool improve(std::vector<int> order) {
    double us = us_of(order);
    bool differs = false;
    for (bool moved = true; moved;) {
      moved = false;
      for (int i = fixed_; i < positions_.ranks; ++i)
        for (int j = i + 1; j < positions_.ranks; ++j) {
          std::swap(order[at(i)], order[at(j)]);
          const double found = us_of(order);
          differs = differs || better(found, us) || better(us, found);
          moved = moved || better(found, us);
          if (better(found, us)) {
            us = found;
          } else {
            std::swap(order[at(i)], order[at(j)]);
          }
        }
    }
    keep(order, us);
    return differs;
  }

  /// Neighbours in number in one subtree, as far as they fit: the natural order along a walk through the first trees.
  std::vector<int> depth_first() const {
    std::vector<std::vector<int>> below(at(positions_.ranks));
    std::vector<bool> has_parent(at(positions_.ranks), false);
    for (const auto& round : positions_.rounds)
      for (const Transfer& transfer : round) {
        if (transfer.chunk != 0 || transfer.action != Action::copy || has_parent[at(transfer.to)]) continue;
        below[at(transfer.from)].push_back(transfer.to);
        has_parent[at(transfer.to)] = true;
      }
    std::vector<int> order(at(positions_.ranks)), waiting;
    for (int position = positions_.ranks - 1; position >= 0; --position)
      if (!has_parent[at(position)]) waiting.push_back(position);
    for (int rank = 0; !waiting.empty(); ++rank) {
      const int position = waiting.back();
      waiting.pop_back();
      order[at(position)] = rank;
      waiting.insert(waiting.end(), below[at(position)].rbegin(), below[at(position)].rend());
    }
    return order;
  }

  const Schedule& positions_;
  Schedule placed_;
  Coster coster_;
  int fixed_;
  std::vector<int> best_;
  double least_us_ = 0;
};

}  // namespace

std::vector<int> rank_order(const Schedule& positions, const Fabric& fabric, const Limits& limits, int fixed) {
  return RankOrderSearch(positions, fabric, limits, fixed).run();
}

Schedule placed(Schedule positions, std::span<const int> order) {
  for (auto* masks : {&positions.givers, &positions.takers})
    for (RankMask& mask : *masks) {
      RankMask ranks = 0;
      for (int position = 0; position < positions.ranks; ++position)
        if (mask & mask_of(position)) ranks |= mask_of(order[at(position)]);
      mask = ranks;
    }
  for (auto& round : positions.rounds)
    for (Transfer& transfer : round) {
      transfer.from = order[at(transfer.from)];
      transfer.to = order[at(transfer.to)];
    }
  return positions;
}

}  // namespace collectives
