// Ranks and limits are coloured again and again by the colours of all that they have to do with, until that tells no more of them
// apart (Weisfeiler and Leman). In a cube mesh it never begins to: all ranks have as many links of each kind, and only where these
// lead differs. So each rank is singled out for a trial, and what that would tell apart goes into its colour.
#include "planner/colouring.hpp"

#include <algorithm>
#include <bit>

#include "base/integers.hpp"

namespace collectives {
namespace {

std::size_t distinct(std::vector<Colour> colours) {
  std::sort(colours.begin(), colours.end());
  return static_cast<std::size_t>(std::unique(colours.begin(), colours.end()) - colours.begin());
}

}  // namespace

Colour blend(Colour colour, Colour with) {
  const Colour mixed = (std::rotl(colour, 25) ^ with) * 0x9e3779b97f4a7c15u;
  return (mixed ^ mixed >> 29) * 0xbf58476d1ce4e5b9u;
}

Colouring::Colouring(const Limits& limits, std::vector<Colour> flows)
    : limits_(limits), flows_(std::move(flows)), ranks_(at(limits.ranks()), 1) {
  for (int limit = 0; limit < limits.count(); ++limit) shared_.push_back(blend(2, limits[limit].mb_per_s));
  refine();
  look_ahead();
}

void Colouring::look_ahead() {
  if (distinct(ranks_) == ranks_.size()) return;
  std::vector<Colour> seen;
  for (int rank = 0; rank < limits_.ranks(); ++rank) {
    Colouring trial = *this;
    trial.single_out(rank, limits_.ranks() + 1);
    Colour sum = 0;
    for (const Colour colour : trial.ranks_) sum += blend(colour, 1);
    for (const Colour colour : trial.shared_) sum += blend(colour, 2);
    seen.push_back(sum);
  }
  for (std::size_t i = 0; i < ranks_.size(); ++i) ranks_[i] = blend(ranks_[i], seen[i]);
  refine();
}

std::vector<int> Colouring::order_from(int first) const {
  Colouring rest = *this;
  std::vector<int> order, left;
  for (int step = 0; step < limits_.ranks(); ++step) left.push_back((first + step) % limits_.ranks());
  while (!left.empty()) {
    const auto next = order.empty()
                          ? left.begin()
                          : std::min_element(left.begin(), left.end(), [&](int a, int b) { return rest.of_rank(a) < rest.of_rank(b); });
    order.push_back(*next);
    left.erase(next);
    rest.single_out(order.back(), static_cast<int>(order.size()));
  }
  return order;
}

void Colouring::single_out(int rank, int number) {
  ranks_[at(rank)] = blend(ranks_[at(rank)], static_cast<Colour>(number) + 1);
  if (distinct(ranks_) < ranks_.size()) refine();
}

void Colouring::refine() {
  for (std::size_t before = 0, now = classes(); now > before; before = now, now = classes()) recolour();
}

std::size_t Colouring::classes() const { return distinct(ranks_) + distinct(shared_); }

// Sums, so that it does not matter in which order a colour is met.
void Colouring::recolour() {
  std::vector<Colour> ranks(ranks_.size(), 0), shared(shared_.size(), 0);
  const int n = limits_.ranks();
  for (int from = 0; from < n; ++from)
    for (int to = 0; to < n; ++to) {
      if (from == to) continue;
      Colour flow = blend(blend(flows_[at(from * n + to)], ranks_[at(from)]), ranks_[at(to)]);
      for (const int limit : limits_.on(from, to)) flow = blend(flow, shared_[at(limit)]);
      ranks[at(from)] += blend(flow, 1);
      ranks[at(to)] += blend(flow, 2);
      Colour hop = 3;
      for (const int limit : limits_.on(from, to)) shared[at(limit)] += blend(flow, hop++);
    }
  for (std::size_t i = 0; i < ranks.size(); ++i) ranks_[i] = blend(ranks_[i], ranks[i]);
  for (std::size_t i = 0; i < shared.size(); ++i) shared_[i] = blend(shared_[i], shared[i]);
}

}  // namespace collectives
