// All-reduce as a packing: each share of the message goes up one tree and down another, and the shares together load every limit.
// The most that fits is a linear program with a column for every pair of trees; only those worth having are made. A solution of
// the program over the columns so far prices each limit, the cheapest trees at these prices (Edmonds) are the next columns,
// and the prices prove how far from the best the solution can be. That is column generation; the prices are smoothed toward the
// best so far, without which they swing.
#include "planner/tree_program.hpp"

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>

#include "base/integers.hpp"
#include "planner/colouring.hpp"
#include "planner/linear.hpp"
#include "planner/tree_pricing.hpp"

namespace collectives {
namespace {

constexpr double good_enough = 1.005;  // bound over packing
constexpr double most_program_work = 2e7;
constexpr double most_work_on_limits = 2e6;
constexpr double next_to_nothing = 1.02;
constexpr double nearly = 1.02;

double sum_of(const std::vector<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0); }

/// Limits that are interchangeable share a row: some best prices are the same for all of them, since others could be averaged over
/// all interchanges, and a program of fewer rows is solved the sooner.
struct LimitRows {
  std::vector<int> of_limit;
  std::vector<double> size;  ///< of all limits of a row together, in units
  double unit = 0;           ///< MB/s: the least row

  int count() const { return static_cast<int>(size.size()); }
};

LimitRows alike(const Limits& limits, const Colouring& colours) {
  LimitRows rows;
  std::map<Colour, int> of_colour;
  for (int limit = 0; limit < limits.count(); ++limit) {
    const auto [row, is_new] = of_colour.try_emplace(colours.of_limit(limit), rows.count());
    if (is_new) rows.size.push_back(0);
    rows.of_limit.push_back(row->second);
    rows.size[at(row->second)] += limits[limit].mb_per_s;
  }
  rows.unit = *std::min_element(rows.size.begin(), rows.size.end());
  for (double& size : rows.size) size /= rows.unit;
  return rows;
}

/// What becomes of every rank in interchanges that bring rank 0 to every place it may have, the first of which changes nothing.
std::vector<std::vector<int>> interchanges(const Colouring& colours, int ranks) {
  const auto own = colours.order_from(0);
  std::vector<std::vector<int>> all;
  for (int first = 0; first < ranks; ++first) {
    if (colours.of_rank(first) != colours.of_rank(0)) continue;
    const auto order = colours.order_from(first);
    auto& image = all.emplace_back(at(ranks));
    for (int place = 0; place < ranks; ++place) image[at(own[at(place)])] = order[at(place)];
  }
  return all;
}

std::vector<int> image_of(const std::vector<int>& parent, const std::vector<int>& image) {
  std::vector<int> result(parent.size(), -1);
  for (std::size_t rank = 0; rank < parent.size(); ++rank)
    if (parent[rank] >= 0) result[at(image[rank])] = image[at(parent[rank])];
  return result;
}

LimitRows one_by_one(const Limits& limits) {
  LimitRows rows;
  for (int limit = 0; limit < limits.count(); ++limit) {
    rows.of_limit.push_back(limit);
    rows.size.push_back(limits[limit].mb_per_s);
  }
  rows.unit = *std::min_element(rows.size.begin(), rows.size.end());
  for (double& size : rows.size) size /= rows.unit;
  return rows;
}

class TreeProgram {
 public:
  TreeProgram(const Limits& limits, LimitRows rows)
      : limits_(limits), rows_(std::move(rows)), program_(rows_.count()), best_prices_(at(rows_.count()), 1.0 / rows_.count()) {}

  /// With what another program of the same limits has proved.
  void know(const TreeProgram& other) {
    bound_ = other.bound_mb_per_s() / rows_.unit;
    for (std::size_t limit = 0; limit < rows_.of_limit.size(); ++limit) {
      const std::size_t row = at(other.rows_.of_limit[limit]);
      best_prices_[at(rows_.of_limit[limit])] =
          other.best_prices_[row] * rows_.size[limit] * rows_.unit / (other.rows_.size[row] * other.rows_.unit);
    }
  }

  void run(double most_work) {
    improve(best_prices_, true);
    for (int pricing = 1; work_ + program_.work() < most_work; ++pricing) {
      program_.solve(most_work - work_ - program_.work());
      const auto prices = row_prices();
      const double packed = sum_of(prices);
      if (bound_ <= good_enough * packed) break;
      std::vector<double> smoothed(prices.size());
      for (std::size_t i = 0; i < smoothed.size(); ++i) smoothed[i] = (prices[i] / packed + best_prices_[i]) / 2;
      const bool every_root = !are_many(limits_.ranks()) || pricing % 4 == 0;
      const bool by_smoothed = improve(smoothed, every_root);
      if (!improve(prices, every_root) && !by_smoothed) break;
    }
  }

  int rows() const { return rows_.count(); }
  double bound_mb_per_s() const { return bound_ * rows_.unit; }
  double mb_per_s() const { return sum_of(program_.amounts()) * rows_.unit; }

  /// Each with its images, among which what a row carries is shared out.
  std::vector<TreePair> trees(const std::vector<std::vector<int>>& images) const {
    const auto amounts = program_.amounts();
    std::vector<TreePair> all;
    for (std::size_t i = 0; i < pairs_.size(); ++i) {
      if (amounts[i] <= 0) continue;
      const double each = amounts[i] * rows_.unit / static_cast<double>(images.size());
      for (const auto& image : images)
        all.push_back({.up = image_of(pairs_[i].up, image), .down = image_of(pairs_[i].down, image), .mb_per_s = each});
    }
    return all;
  }

 private:
  /// Never negative, as rounding would have some: any prices from 0 up prove a bound.
  std::vector<double> row_prices() const {
    auto prices = program_.prices();
    for (double& price : prices) price = std::max(price, 0.0);
    return prices;
  }

  /// Adds the cheapest pair of trees of every root, or of two that are likely the best, at these prices of rows, unless the program has
  /// nothing to gain from it. Lowers the bound.
  bool improve(const std::vector<double>& prices, bool every_root) {
    Prices a_unit;
    for (const int row : rows_.of_limit) a_unit.push_back(prices[at(row)] / rows_.size[at(row)]);
    const TreePricing pricing(limits_, a_unit);
    const auto current = row_prices();
    bool gained = false;
    const auto add_at = [&](int root) {
      work_ += tree_work(limits_.ranks());
      const TreePair pair = pricing.cheapest(root);
      gained = add(pricing.thinned(pair, next_to_nothing), current) || add(pair, current) || gained;
      if (!pricing.has_writers()) return pricing.cost_of(pair);
      const TreePair of_few = pricing.cheapest_of_few_writers(root);
      gained = add(of_few, current) || gained;
      return pricing.least_cost(pair, of_few);
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
    for (std::size_t i = 0; i < prices.size(); ++i) best_prices_[i] = prices[i] / sum;
    return gained;
  }

  bool add(TreePair pair, const std::vector<double>& prices) {
    const auto demand = demand_of(pair, limits_, false);
    std::vector<double> column(rows_.size.size(), 0.0);
    for (std::size_t i = 0; i < demand.size(); ++i) column[at(rows_.of_limit[i])] += demand[i] / rows_.size[at(rows_.of_limit[i])];
    const double cost = std::inner_product(column.begin(), column.end(), prices.begin(), 0.0);
    if (cost > 1 - 1e-7) return false;
    pairs_.push_back(std::move(pair));
    program_.add(column);
    return true;
  }

  const Limits& limits_;
  const LimitRows rows_;
  double work_ = 0;  ///< beside the program's
  ColumnProgram program_;
  std::vector<TreePair> pairs_;      ///< by column
  std::vector<double> best_prices_;  ///< of rows, those that prove the bound; together 1
  double bound_ = std::numeric_limits<double>::infinity();
};

}  // namespace

// The proof is found limits of a kind together. With it, trees that need no images are soon found on the limits one by one, if they
// are: they are fewer.
TreeBound bound_trees(const Limits& limits) {
  const Colouring colours(limits, std::vector<Colour>(at(limits.ranks() * limits.ranks()), 0));
  std::vector<int> unchanged(at(limits.ranks()));
  std::iota(unchanged.begin(), unchanged.end(), 0);
  TreeProgram alike_together(limits, alike(limits, colours));
  alike_together.run(most_program_work);
  TreeBound bound{.trees = {}, .bound_mb_per_s = alike_together.bound_mb_per_s()};
  if (alike_together.rows() == limits.count()) {
    bound.trees = alike_together.trees({unchanged});
    return bound;
  }
  TreeProgram each(limits, one_by_one(limits));
  each.know(alike_together);
  each.run(most_work_on_limits);
  bound.trees = each.mb_per_s() * nearly >= bound.bound_mb_per_s ? each.trees({unchanged})
                                                                 : alike_together.trees(interchanges(colours, limits.ranks()));
  return bound;
}

}  // namespace collectives
