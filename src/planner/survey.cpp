#include "planner/survey.hpp"

#include <algorithm>
#include <limits>

#include "base/integers.hpp"
#include "planner/bound.hpp"
#include "planner/cost.hpp"
#include "planner/islands.hpp"
#include "planner/rank_order.hpp"
#include "planner/ring_order.hpp"
#include "planner/standard_order.hpp"
#include "planner/tree_program.hpp"

namespace collectives {
namespace {

// Twelve channels come within 5 % of the bound on every machine tried; each costs every rank two steps a tile.
constexpr int most_channels = 12;

/// Of an all-reduce: what trees and what cuts prove. `cut` are the limits that cuts go through.
double bound_of(double of_trees, const Limits& cut) { return std::min(of_trees, static_cast<double>(all_reduce_cut(cut).mb_per_s)); }

/// By the names that ranks have in `order`.
std::vector<int> named(std::vector<int> places, const std::vector<int>& order) {
  for (int& place : places) place = order[at(place)];
  return places;
}

std::vector<int> named_tree(const std::vector<int>& parents, const std::vector<int>& order) {
  std::vector<int> named(parents.size(), no_parent);
  for (std::size_t place = 0; place < parents.size(); ++place)
    if (parents[place] != no_parent) named[at(order[place])] = order[at(parents[place])];
  return named;
}

/// From rank 0 on: what goes round a ring is the same wherever it begins.
std::vector<int> begun_by_first(std::vector<int> ring) {
  std::rotate(ring.begin(), std::find(ring.begin(), ring.end(), 0), ring.end());
  return ring;
}

/// Where host memory carries so little beside the slowest link that no tree of weight leads through it.
Fabric links_alone(Fabric fabric) {
  std::uint32_t slowest = std::numeric_limits<std::uint32_t>::max();
  for (const FabricLink& link : fabric.links)
    if (link.by_peer() && link.mb_per_s > 0) slowest = std::min(slowest, link.mb_per_s);
  for (FabricLink& link : fabric.links)
    if (link.handover() == Handover::host) link.mb_per_s = std::min(link.mb_per_s, std::max(slowest / 1024, 1u));
  return fabric;
}

/// Of an all-reduce by these trees, as blocks walk them.
double us_per_byte(const std::vector<TreePair>& trees, const Fabric& fabric, const Limits& limits) {
  const Schedule schedule = tree_pairs_all_reduce(trees);
  return std::max(cost_of(schedule, fabric, limits).steady_us_per_byte, walk_of(lower(schedule), fabric, limits).us_per_byte);
}

/// Trees along links and through host memory carry most, but blocks serve the two one after the other: links alone may be faster. On a row of four H200
/// 64 MB take 932 us by the former and 521 by a tree along the row.
Packing pack_for_walkers(const Fabric& fabric, const Limits& limits) {
  Packing packing = pack_trees(limits, most_channels);
  const bool mixed = std::any_of(fabric.links.begin(), fabric.links.end(), [](const FabricLink& link) { return link.handover() == Handover::host; });
  if (fabric.backend != Backend::cuda || !mixed || fabric.meets_on_host()) return packing;
  const Packing along_links = pack_trees(Limits(links_alone(fabric)), most_channels);
  if (us_per_byte(along_links.trees, fabric, limits) > 0.98 * us_per_byte(packing.trees, fabric, limits)) return packing;
  packing.trees = along_links.trees;
  packing.mb_per_s = along_links.mb_per_s;
  return packing;
}

/// With the ranks in the order of least cost that was found from `order` on, the first `fixed` of which stay where they are.
Schedule in_best_order(const Schedule& positions, const Survey& survey, const std::vector<int>& order, int fixed) {
  const Fabric standard = reordered(survey.fabric, order);
  return placed(positions, named(rank_order(positions, standard, Limits(standard), fixed), order));
}

}  // namespace

Survey survey_of(const Fabric& fabric) {
  if (fabric.ranks == 1) return {.fabric = fabric, .limits = Limits(fabric), .offering_limits = Limits(fabric), .order = {0}, .ring = {0}, .islands = {{0}}, .packing = {}};
  Survey survey{.fabric = fabric, .limits = Limits(fabric), .offering_limits = Limits(fabric, Staging::once), .order = standard_order(fabric), .ring = {}, .islands = {}, .packing = {}};
  const Fabric standard = reordered(fabric, survey.order);
  const Limits limits(standard);
  survey.ring = begun_by_first(named(ring_order(limits), survey.order));
  survey.islands = islands_of(standard);
  const bool offers = std::any_of(fabric.links.begin(), fabric.links.end(), [](const FabricLink& link) { return link.handover() == Handover::host; });
  const Limits offering(standard, Staging::once);
  // Messages long enough for many trees go over flags if all of them passes host memory.
  const bool packs_offers = offers && fabric.meets_on_host();
  survey.packing = packs_offers ? pack_trees(offering, most_channels) : pack_for_walkers(standard, limits);
  for (TreePair& pair : survey.packing.trees) {
    pair.up = named_tree(pair.up, survey.order);
    pair.down = named_tree(pair.down, survey.order);
  }
  const double packed = survey.packing.bound_mb_per_s;
  survey.bound_mb_per_s = bound_of(packs_offers ? bound_trees(limits).bound_mb_per_s : packed, limits);
  survey.offering_bound_mb_per_s = survey.bound_mb_per_s;
  if (offers) survey.offering_bound_mb_per_s = bound_of(packs_offers ? packed : bound_trees(offering).bound_mb_per_s, Limits(offering_on(standard)));
  return survey;
}

Survey survey_through_host(Survey survey) {
  survey.fabric = without_pulls(std::move(survey.fabric));
  survey.limits = Limits(survey.fabric);
  survey.offering_limits = Limits(survey.fabric, Staging::once);
  const Fabric standard = reordered(survey.fabric, survey.order);
  const Limits limits(standard), offering(standard, Staging::once);
  survey.bound_mb_per_s = bound_of(bound_trees(limits).bound_mb_per_s, limits);
  survey.offering_bound_mb_per_s = bound_of(bound_trees(offering).bound_mb_per_s, Limits(offering_on(standard)));
  return survey;
}

Schedule build_schedule(AlgorithmChoice choice, const Survey& survey) {
  if (survey.limits.ranks() == 1) return schedule_of_one_rank();
  switch (choice.algorithm) {
    case Algorithm::ring: return ring_all_reduce(survey.ring);
    case Algorithm::packed_trees: return tree_pairs_all_reduce(survey.packing.trees);
    case Algorithm::island: return in_best_order(island_all_reduce(survey.islands), survey, survey.order, 0);
    case Algorithm::one_shot:
    case Algorithm::two_shot:
    case Algorithm::copy_two_shot: return build_schedule(choice, survey.fabric.ranks);
    default: return in_best_order(build_schedule(choice, survey.fabric.ranks), survey, survey.order, 0);
  }
}

Schedule build_schedule(Collective collective, AlgorithmChoice choice, const Survey& survey, int root) {
  if (collective == Collective::all_reduce) return build_schedule(choice, survey);
  const int ranks = survey.fabric.ranks;
  const bool rings = choice.algorithm == Algorithm::ring, trees = !rings && !is_direct(choice.algorithm);
  const bool rooted = collective == Collective::broadcast || collective == Collective::reduce;
  // For its refusals, and for what has no order.
  Schedule natural = build_schedule(collective, choice, ranks, rooted && trees ? 0 : root);
  if (rings && collective == Collective::all_gather) return ring_all_gather(survey.ring);
  if (rings && collective == Collective::reduce_scatter) return ring_reduce_scatter(survey.ring);
  if (rings && rooted) {
    Schedule broadcast = ring_broadcast(survey.ring, root);
    return collective == Collective::broadcast ? broadcast : reversed(broadcast);
  }
  return rooted && trees ? in_best_order(natural, survey, standard_order(survey.fabric, root), 1) : natural;
}

}  // namespace collectives
