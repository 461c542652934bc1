// The program of trees (tree_program.cpp) has a best solution of more pairs than there are channels, and does not know what fanning
// out costs. Cutting it to the heaviest pairs can cost a quarter. So pieces of the message are laid one by one where the others leave
// most room, and laid again, and weighed anew, from that solution and from nothing. Where links hold a weight a whole number of times,
// trees of that weight may leave nothing of them: only a search for all of them together finds such.
#include "planner/packing.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

#include "planner/even_trees.hpp"
#include "planner/linear.hpp"
#include "planner/program.hpp"
#include "planner/tree_pricing.hpp"
#include "planner/tree_program.hpp"

namespace collectives {
namespace {

constexpr double most_packing_work = 8e6;
constexpr double near = 0.97, near_for_many = 0.955;  // of the bound, for how many ranks it can be reached in the time there is
constexpr double as_much = 0.99;
constexpr double smallest_tree_share = 1.0 / 256;
constexpr double fullest = 1e6;  // of a limit, as far as prices look

double total_of(const std::vector<TreePair>& trees) {
  return std::accumulate(trees.begin(), trees.end(), 0.0, [](double sum, const TreePair& pair) { return sum + pair.mb_per_s; });
}

/// Would each rank's part of these trees go into a program?
bool fits_programs(const std::vector<TreePair>& trees) {
  for (std::size_t rank = 0; rank < trees[0].up.size(); ++rank) {
    int steps = 0, in = 0, out = 0;
    for (const TreePair& pair : trees) {
      const bool root = pair.up[rank] < 0;
      steps += root ? 1 : 2;
      in += static_cast<int>(std::count(pair.up.begin(), pair.up.end(), static_cast<int>(rank))) + !root;
      out += static_cast<int>(std::count(pair.down.begin(), pair.down.end(), static_cast<int>(rank))) + !root;
    }
    if (steps > max_steps || in > max_lanes || out > max_lanes || in + out > max_edges) return false;
  }
  return true;
}

class Packer {
 public:
  Packer(const Limits& limits, const TreeBound& bound)
      : limits_(limits),
        solution_(bound.trees),
        bound_mb_per_s_(bound.bound_mb_per_s),
        enough_mb_per_s_(bound.bound_mb_per_s * (are_many(limits.ranks()) ? near_for_many : near)) {
    for (int i = 0; i < limits.count(); ++i) unit_ = std::min<double>(unit_, limits[i].mb_per_s);
  }

  /// As few trees as come near the bound, for each is a step of the ranks' programs; the best of all that were tried if none do.
  std::vector<TreePair> run(int most_trees) {
    std::vector<TreePair> best;
    int tried = 0;
    for (const int some : are_many(limits_.ranks()) ? std::vector{8, 10, 12} : std::vector{1, 2, 3, 4, 6, 8, 10, 12}) {
      auto trees = best_of(std::min(some, most_trees));
      while (tried < std::min(some, most_trees) && total_of(trees) < enough_mb_per_s_)
        if (auto even = even_of(++tried, enough_mb_per_s_); total_of(even) > total_of(trees)) trees = std::move(even);
      if (best.empty() || as_much * total_of(trees) > total_of(best)) best = std::move(trees);
      if (total_of(best) >= enough_mb_per_s_ || some >= most_trees) break;
    }
    return total_of(best) >= enough_mb_per_s_ ? best : nearest_even(std::move(best), most_trees);
  }

 private:
  std::size_t count() const { return static_cast<std::size_t>(limits_.count()); }
  double limit(std::size_t index) const { return limits_[static_cast<int>(index)].mb_per_s; }

  /// Of 1 MB/s, with what fanning out costs.
  std::vector<double> share_of_limits(const TreePair& pair) const {
    auto share = demand_of(pair, limits_, true);
    for (std::size_t i = 0; i < count(); ++i) share[i] /= limit(i);
    return share;
  }

  /// Of what programs count in.
  std::vector<double> column_of(const TreePair& pair) const {
    auto column = share_of_limits(pair);
    for (double& share : column) share *= unit_;
    return column;
  }

  std::vector<TreePair> best_of(int most_trees) {
    std::vector<TreePair> best = weighed(solution_, most_trees);
    for (const int steepness : {4, 3, 5}) {
      for (std::vector<TreePair> start : {best, std::vector<TreePair>{}})
        if (total_of(best) < enough_mb_per_s_)
          if (auto laid = lay(std::move(start), most_trees, steepness); total_of(laid) > total_of(best)) best = std::move(laid);
    }
    return best;
  }

  /// So many of one weight that carry this together, and then the best amounts for them; none if there are none.
  std::vector<TreePair> even_of(int count, double mb_per_s) {
    work_ += count * tree_work(limits_.ranks());
    auto trees = even_trees(limits_, count, mb_per_s / count);
    return trees.empty() ? trees : weighed(std::move(trees), count);
  }

  /// The most that trees of one weight carry, and a few others what those leave, where that is more.
  std::vector<TreePair> nearest_even(std::vector<TreePair> best, int most_trees) {
    const double end = work_ + most_packing_work;
    for (double part = enough_mb_per_s_; part > 1.01 * total_of(best); part *= 0.98)
      for (int count = 1; count <= most_trees && work_ < end; ++count)
        if (auto trees = grown(even_of(count, part), most_trees); total_of(trees) > total_of(best)) best = std::move(trees);
    return best;
  }

  /// With others, each the cheapest at the prices of those there are.
  std::vector<TreePair> grown(std::vector<TreePair> trees, int most_trees) {
    if (trees.empty()) return trees;
    for (std::vector<TreePair> more = trees; more.size() < static_cast<std::size_t>(most_trees);) {
      ColumnProgram program(limits_.count());
      for (const TreePair& pair : more) program.add(column_of(pair));
      program.solve(most_packing_work);
      Prices prices = program.prices();
      for (std::size_t i = 0; i < count(); ++i) prices[i] = (std::max(prices[i], 0.0) + 1e-9) / limit(i);
      more.push_back(cheapest_of_shapes(prices));
      more.back().mb_per_s = total_of(more);  // the heaviest until they are weighed, so that it is not among those left out
      more = weighed(std::move(more), most_trees);
      if (total_of(more) < 1.001 * total_of(trees)) break;
      trees = more;
    }
    return trees;
  }

  /// As much as the bound in `pieces` trees, each laid again and again where the others leave most room, and weighed anew, as long as
  /// that helps.
  std::vector<TreePair> lay(std::vector<TreePair> trees, int pieces, int steepness) {
    std::vector<TreePair> best;
    for (int pass = 0, vain = 0; vain < 2 && work_ < most_packing_work; ++pass) {
      cut(trees, pieces);
      lay_once(trees, steepness);
      // The first passes only spread what was laid without knowing of the others.
      if (pass < 2) continue;
      trees = weighed(std::move(trees), pieces);
      vain = total_of(trees) > 1.001 * total_of(best) ? 0 : vain + 1;
      if (total_of(trees) > total_of(best)) best = trees;
    }
    return best;
  }

  /// Halves the heaviest until there are enough, which carry as much as the bound together.
  void cut(std::vector<TreePair>& trees, int pieces) const {
    if (trees.empty()) trees.emplace_back();
    while (trees.size() < static_cast<std::size_t>(pieces)) {
      const auto heaviest =
          std::max_element(trees.begin(), trees.end(), [](const TreePair& a, const TreePair& b) { return a.mb_per_s < b.mb_per_s; });
      heaviest->mb_per_s /= 2;
      trees.push_back(TreePair(*heaviest));
    }
    const double scale = bound_mb_per_s_ / total_of(trees);
    for (TreePair& pair : trees) pair.mb_per_s *= scale;
  }

  void lay_once(std::vector<TreePair>& trees, int steepness) {
    std::vector<double> load(count(), 0.0);
    for (const TreePair& pair : trees)
      if (!pair.up.empty()) shift(load, pair, pair.mb_per_s);
    for (TreePair& pair : trees) {
      if (!pair.up.empty()) shift(load, pair, -pair.mb_per_s);
      const double amount = pair.mb_per_s;
      pair = cheapest_of_shapes(prices_under(load, amount, steepness));
      pair.mb_per_s = amount;
      shift(load, pair, amount);
    }
  }

  /// Wide trees cost least until what fanning out costs is counted.
  TreePair cheapest_of_shapes(const Prices& prices) {
    const TreePricing pricing(limits_, prices);
    TreePair best;
    double least = std::numeric_limits<double>::infinity();
    const auto take_cheaper = [&](TreePair pair) {
      const auto demand = demand_of(pair, limits_, true);
      const double cost = std::inner_product(demand.begin(), demand.end(), prices.begin(), 0.0);
      if (cost >= least) return;
      least = cost;
      best = std::move(pair);
    };
    const auto consider = [&](int root) {
      work_ += tree_work(limits_.ranks());
      const TreePair wide = pricing.cheapest(root);
      for (const double dearer : {1.0, 1.02, 1.5, 4.0}) take_cheaper(pricing.thinned(wide, dearer));
      if (pricing.has_writers()) take_cheaper(pricing.cheapest_of_few_writers(root));
    };
    if (are_many(limits_.ranks())) {
      for (const int root : pricing.cheapest_apart().roots) consider(root);
    } else {
      for (int root = 0; root < limits_.ranks(); ++root) consider(root);
    }
    return best;
  }

  void shift(std::vector<double>& load, const TreePair& pair, double sign) const {
    const auto column = share_of_limits(pair);
    for (std::size_t i = 0; i < count(); ++i) load[i] += sign * column[i];
  }

  /// Steep in how full a limit would be with one piece more, to the power of 2^steepness: only the fullest count.
  Prices prices_under(const std::vector<double>& load, double piece, int steepness) const {
    Prices prices(count());
    for (std::size_t i = 0; i < count(); ++i) {
      double full = std::clamp(load[i] + piece / limit(i), 0.0, fullest);
      for (int doubling = 0; doubling < steepness; ++doubling) full *= full;
      prices[i] = (full + 1e-9) / limit(i);
    }
    return prices;
  }

  /// The best amounts for the heaviest of these trees, negligible ones left out.
  std::vector<TreePair> weighed(std::vector<TreePair> trees, int most_trees) const {
    for (;;) {
      std::stable_sort(trees.begin(), trees.end(), [](const TreePair& a, const TreePair& b) { return a.mb_per_s > b.mb_per_s; });
      const double least = smallest_tree_share * total_of(trees);
      std::erase_if(trees, [&](const TreePair& pair) { return pair.mb_per_s < least; });
      if (trees.size() > static_cast<std::size_t>(most_trees)) trees.resize(static_cast<std::size_t>(most_trees));
      ColumnProgram program(limits_.count());
      for (const TreePair& pair : trees) program.add(column_of(pair));
      program.solve(most_packing_work);
      const auto amounts = program.amounts();
      for (std::size_t i = 0; i < trees.size(); ++i) trees[i].mb_per_s = amounts[i] * unit_;
      const bool worthwhile = std::all_of(trees.begin(), trees.end(), [&](const TreePair& pair) { return pair.mb_per_s >= least; });
      if (worthwhile && fits_programs(trees)) break;
      if (worthwhile) most_trees = static_cast<int>(trees.size()) - 1;
    }
    fill(trees);
    return trees;
  }

  /// To exactly what the busiest limit carries.
  void fill(std::vector<TreePair>& trees) const {
    std::vector<double> load(count(), 0.0);
    for (const TreePair& pair : trees) shift(load, pair, pair.mb_per_s);
    const double busiest = *std::max_element(load.begin(), load.end());
    for (TreePair& pair : trees) pair.mb_per_s /= busiest;
  }

  const Limits& limits_;
  const std::vector<TreePair>& solution_;
  double bound_mb_per_s_;
  double enough_mb_per_s_;
  double work_ = 0;
  double unit_ = std::numeric_limits<double>::max();  ///< the least limit: programs count in it
};

}  // namespace

Packing pack_trees(const Limits& limits, int most_trees) {
  const TreeBound bound = bound_trees(limits);
  Packing packing{.trees = Packer(limits, bound).run(most_trees), .bound_mb_per_s = bound.bound_mb_per_s};
  packing.mb_per_s = total_of(packing.trees);
  return packing;
}

}  // namespace collectives
