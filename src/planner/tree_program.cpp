// All-reduce as a packing: each share of the message goes up one tree and down another, and the shares together load every limit.
// The most that fits is a linear program with a column for every pair of trees; only those worth having are made. A solution of
// the program over the columns so far prices each limit, the cheapest trees at these prices (Edmonds) are the next columns,
// and the prices prove how far from the best the solution can be. That is column generation; the prices are smoothed toward the
// best so far, without which they swing.
#include "planner/tree_program.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

#include "planner/linear.hpp"
#include "planner/tree_pricing.hpp"

namespace collectives {
namespace {

constexpr double good_enough = 1.005;  // bound over packing
constexpr double most_work = 2e7;
constexpr double next_to_nothing = 1.02;

double sum_of(const std::vector<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0); }

class TreeProgram {
 public:
  explicit TreeProgram(const Limits& limits) : limits_(limits), program_(limits.count()), best_prices_(count(), 1.0 / limits.count()) {
    for (int i = 0; i < limits.count(); ++i) unit_ = std::min<double>(unit_, limits[i].mb_per_s);
  }

  TreeBound run() {
    improve(best_prices_, true);
    for (int pricing = 1; work_ + program_.work() < most_work; ++pricing) {
      program_.solve(most_work - work_ - program_.work());
      const auto prices = row_prices();
      const double packed = sum_of(prices);
      if (bound_ <= good_enough * packed) break;
      std::vector<double> smoothed(count());
      for (std::size_t i = 0; i < count(); ++i) smoothed[i] = (prices[i] / packed + best_prices_[i]) / 2;
      const bool every_root = !are_many(limits_.ranks()) || pricing % 4 == 0;
      const bool by_smoothed = improve(smoothed, every_root);
      if (!improve(prices, every_root) && !by_smoothed) break;
    }
    const auto amounts = program_.amounts();
    TreeBound found{.trees = {}, .bound_mb_per_s = bound_ * unit_};
    for (std::size_t i = 0; i < pairs_.size(); ++i) {
      if (amounts[i] <= 0) continue;
      found.trees.push_back({.up = std::move(pairs_[i].up), .down = std::move(pairs_[i].down), .mb_per_s = amounts[i] * unit_});
      found.mb_per_s += amounts[i] * unit_;
    }
    return found;
  }

 private:
  std::size_t count() const { return static_cast<std::size_t>(limits_.count()); }
  double size(std::size_t limit) const { return limits_[static_cast<int>(limit)].mb_per_s / unit_; }

  /// Never negative, as rounding would have some: any prices from 0 up prove a bound.
  std::vector<double> row_prices() const {
    auto prices = program_.prices();
    for (double& price : prices) price = std::max(price, 0.0);
    return prices;
  }

  /// Adds the cheapest pair of trees of every root, or of two that are likely the best, at these prices of rows, unless the program has
  /// nothing to gain from it. Lowers the bound.
  bool improve(const std::vector<double>& prices, bool every_root) {
    Prices a_unit(count());
    for (std::size_t i = 0; i < count(); ++i) a_unit[i] = prices[i] / size(i);
    const TreePricing pricing(limits_, a_unit);
    const auto current = row_prices();
    bool gained = false;
    const auto add_at = [&](int root) {
      work_ += tree_work(limits_.ranks());
      const TreePair pair = pricing.cheapest(root);
      gained = add(pricing.thinned(pair, next_to_nothing), current) || add(pair, current) || gained;
      return pricing.cost_of(pair);
    };
    double cheapest = std::numeric_limits<double>::infinity();
    if (every_root) {
      for (int root = 0; root < limits_.ranks(); ++root) cheapest = std::min(cheapest, add_at(root));
    } else {
      const auto apart = pricing.cheapest_apart();
      cheapest = apart.cost;
      for (const int root : apart.roots) add_at(root);
    }
    const double sum = sum_of(prices);
    if (sum >= bound_ * cheapest) return gained;
    bound_ = sum / cheapest;
    for (std::size_t i = 0; i < count(); ++i) best_prices_[i] = prices[i] / sum;
    return gained;
  }

  bool add(TreePair pair, const std::vector<double>& prices) {
    auto column = demand_of(pair, limits_, false);
    for (std::size_t i = 0; i < count(); ++i) column[i] /= size(i);
    const double cost = std::inner_product(column.begin(), column.end(), prices.begin(), 0.0);
    if (cost > 1 - 1e-7) return false;
    pairs_.push_back(std::move(pair));
    program_.add(column);
    return true;
  }

  const Limits& limits_;
  double work_ = 0;                                   ///< beside the program's
  double unit_ = std::numeric_limits<double>::max();  ///< the least limit: rows are counted in it, and amounts
  ColumnProgram program_;
  std::vector<TreePair> pairs_;      ///< by column
  std::vector<double> best_prices_;  ///< of rows, those that prove the bound; together 1
  double bound_ = std::numeric_limits<double>::infinity();
};

}  // namespace

TreeBound bound_trees(const Limits& limits) { return TreeProgram(limits).run(); }

}  // namespace collectives
