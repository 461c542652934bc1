#include "planner/ring_order.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <tuple>

#include "base/integers.hpp"

namespace collectives {
namespace {

constexpr int most_ranks_of_exact_rings = 9;

/// Less is better.
struct Strain {
  double busiest = 0;  ///< of a limit's load over its capacity
  double all = 0;      ///< the squares of these, together
  auto operator<=>(const Strain&) const = default;
};

class Search {
 public:
  explicit Search(const Limits& limits) : limits_(limits), load_(at(limits.count()), 0) {}

  std::vector<int> run() {
    std::vector<int> natural(at(limits_.ranks()));
    std::iota(natural.begin(), natural.end(), 0);
    keep(natural, strain_of(natural));
    if (limits_.ranks() <= most_ranks_of_exact_rings) {
      std::vector<int> order{0};
      extend(order, Strain{});
    } else {
      improve(natural);
      for (int first = 0; first < limits_.ranks(); ++first) improve(nearest_first(first));
    }
    return best_;
  }

 private:
  Strain strain_of(const std::vector<int>& order) {
    Strain strain;
    for (std::size_t i = 0; i < order.size(); ++i) strain = with_hop(strain, order[i], order[(i + 1) % order.size()]);
    for (std::size_t i = 0; i < order.size(); ++i) take_back(order[i], order[(i + 1) % order.size()]);
    return strain;
  }

  Strain with_hop(Strain strain, int from, int to) {
    for (const int limit : limits_.on(from, to)) {
      const double share = 1.0 / limits_[limit].mb_per_s, load = ++load_[at(limit)];
      strain.busiest = std::max(strain.busiest, load * share);
      strain.all += (2 * load - 1) * share * share;
    }
    return strain;
  }

  void take_back(int from, int to) {
    for (const int limit : limits_.on(from, to)) --load_[at(limit)];
  }

  void keep(const std::vector<int>& order, Strain strain) {
    if (!best_.empty() && !better(strain, best_strain_)) return;
    best_ = order;
    best_strain_ = strain;
  }

  /// Sums in another order differ in their last digits: that is no better.
  static bool better(const Strain& a, const Strain& b) {
    constexpr double certainly = 1 - 1e-9;
    if (a.busiest < certainly * b.busiest) return true;
    return a.busiest <= b.busiest && a.all < certainly * b.all;
  }

  // All orders that begin like this one and may yet beat the best.
  void extend(std::vector<int>& order, Strain strain) {
    if (better(best_strain_, strain) || strain.busiest > best_strain_.busiest) return;
    if (order.size() == at(limits_.ranks())) {
      keep(order, with_hop(strain, order.back(), 0));
      take_back(order.back(), 0);
      return;
    }
    for (int next = 1; next < limits_.ranks(); ++next) {
      if (std::find(order.begin(), order.end(), next) != order.end()) continue;
      const int last = order.back();
      const Strain longer = with_hop(strain, last, next);
      order.push_back(next);
      extend(order, longer);
      order.pop_back();
      take_back(last, next);
    }
  }

  std::vector<int> nearest_first(int first) {
    std::vector<int> order{first};
    while (order.size() < at(limits_.ranks())) {
      int best = -1;
      Strain least;
      for (int next = 0; next < limits_.ranks(); ++next) {
        if (std::find(order.begin(), order.end(), next) != order.end()) continue;
        const Strain strain = with_hop({}, order.back(), next);
        take_back(order.back(), next);
        if (best < 0 || better(strain, least)) best = next, least = strain;
      }
      with_hop({}, order.back(), best);
      order.push_back(best);
    }
    std::fill(load_.begin(), load_.end(), 0);
    std::rotate(order.begin(), std::find(order.begin(), order.end(), 0), order.end());
    return order;
  }

  // Turns round the part of the order, or moves the rank, that helps, until none does. Rank 0 stays first.
  void improve(std::vector<int> order) {
    Strain strain = strain_of(order);
    for (bool moved = true; moved;) {
      moved = false;
      for (std::size_t i = 1; i + 1 < order.size(); ++i)
        for (std::size_t j = i + 1; j < order.size(); ++j)
          for (const bool reverse : {true, false}) {
            auto next = order;
            const auto begin = next.begin() + static_cast<std::ptrdiff_t>(i), end = next.begin() + static_cast<std::ptrdiff_t>(j) + 1;
            if (reverse) {
              std::reverse(begin, end);
            } else {
              std::rotate(begin, begin + 1, end);
            }
            const Strain found = strain_of(next);
            if (!better(found, strain)) continue;
            order = std::move(next);
            strain = found;
            moved = true;
          }
    }
    keep(order, strain);
  }

  const Limits& limits_;
  std::vector<int> load_;
  std::vector<int> best_;
  Strain best_strain_;
};

}  // namespace

std::vector<int> ring_order(const Limits& limits) { return Search(limits).run(); }

}  // namespace collectives
