// Ranks of one colour are taken to be interchangeable: the first of them is placed, which gives it a colour of its own, and the others
// are coloured anew. Where that is wrong, in graphs more regular than machines are, the order depends on the numbers, and is as sound
// as any.
#include "planner/standard_order.hpp"

#include <algorithm>
#include <cstdint>
#include <tuple>

#include "base/integers.hpp"
#include "base/require.hpp"
#include "planner/colouring.hpp"

namespace collectives {
namespace {

/// Of each ordered pair, what it is by itself.
std::vector<Colour> flows_of(const Fabric& fabric) {
  std::vector<Colour> flows;
  for (const FabricLink& link : fabric.links) flows.push_back(blend(blend(link.pulled * 4u + link.direct * 2u + link.root, link.mb_per_s), link.latency_ns));
  return flows;
}

/// What nothing tells apart is told apart by its number, counted from `first`.
class Ordering {
 public:
  Ordering(const Fabric& fabric, int first) : fabric_(fabric), limits_(fabric), colours_(limits_, flows_of(fabric)), first_(first) {
    for (int rank = 0; rank < fabric.ranks; ++rank) left_.push_back(rank);
  }

  std::vector<int> follow() {
    while (!left_.empty()) place(*std::min_element(left_.begin(), left_.end(), [&](int a, int b) { return key(a) < key(b); }));
    return order_;
  }

  void place(int rank) {
    std::erase(left_, rank);
    order_.push_back(rank);
    colours_.single_out(rank, static_cast<int>(order_.size()));
    if (order_.size() == 1) first_ = rank;
  }

 private:
  using Key = std::tuple<bool, std::uint64_t, std::uint32_t, std::size_t, Colour, int>;

  Key key(int rank) const {
    const int number = (rank - first_ + fabric_.ranks) % fabric_.ranks;
    if (order_.empty()) return {false, ~reach(rank), 0, 0, colours_.of_rank(rank), number};
    const FabricLink& link = fabric_.link(order_.back(), rank);
    return {!link.by_peer(), ~std::uint64_t{width(order_.back(), rank)}, link.latency_ns, link.route.size(), colours_.of_rank(rank), number};
  }

  /// Of the narrowest limit on the way.
  std::uint32_t width(int from, int to) const {
    std::uint32_t least = fabric_.link(from, to).mb_per_s;
    for (const int limit : limits_.on(from, to)) least = std::min(least, limits_[limit].mb_per_s);
    return least;
  }

  std::uint64_t reach(int rank) const {
    std::uint64_t sum = 0;
    for (int other = 0; other < fabric_.ranks; ++other)
      if (other != rank) sum += width(rank, other) + std::uint64_t{width(other, rank)};
    return sum;
  }

  const Fabric& fabric_;
  const Limits limits_;
  Colouring colours_;
  int first_;
  std::vector<int> order_, left_;
};

}  // namespace

std::vector<int> standard_order(const Fabric& fabric) { return Ordering(fabric, 0).follow(); }

std::vector<int> standard_order(const Fabric& fabric, int first) {
  require(first >= 0 && first < fabric.ranks, "an order begins with one of the ranks");
  Ordering ordering(fabric, first);
  ordering.place(first);
  return ordering.follow();
}

Fabric reordered(const Fabric& fabric, std::span<const int> order) {
  require(order.size() == at(fabric.ranks), "an order has all ranks of the fabric");
  Fabric result = fabric;
  constexpr int unmet = -1;
  std::vector<int> place(fabric.resources.size(), unmet);
  result.resources.clear();
  const auto moved = [&](FabricLink link, int from, int to) {
    for (auto& resource : link.route) {
      int& found = place[resource];
      if (found == unmet) {
        found = static_cast<int>(result.resources.size());
        result.resources.push_back({fabric.resources[resource].kind, from, to, fabric.resources[resource].mb_per_s});
      }
      resource = static_cast<std::uint16_t>(found);
    }
    return link;
  };
  for (auto links : {&Fabric::links, &Fabric::staged})
    for (int from = 0; from < fabric.ranks; ++from)
      for (int to = 0; to < fabric.ranks; ++to)
        (result.*links)[result.index(from, to)] = moved((fabric.*links)[fabric.index(order[at(from)], order[at(to)])], from, to);
  return result;
}

}  // namespace collectives
