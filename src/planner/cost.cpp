#include "planner/cost.hpp"

#include <algorithm>
#include <numeric>
#include <tuple>
#include <vector>

#include "base/integers.hpp"
#include "base/require.hpp"
#include "topology/priors.hpp"

namespace collectives {
namespace {

std::vector<double> shares_of(const Schedule& schedule) {
  if (schedule.weights.empty()) return std::vector<double>(at(schedule.chunks), 1.0 / schedule.chunks);
  const double total = std::accumulate(schedule.weights.begin(), schedule.weights.end(), 0.0);
  std::vector<double> shares;
  for (const std::uint32_t weight : schedule.weights) shares.push_back(weight / total);
  return shares;
}

/// The limit that takes longest, and how long it takes for a byte of the message.
std::pair<int, double> busiest_of(const std::vector<double>& load, const Limits& limits) {
  std::pair<int, double> busiest{0, 0.0};
  for (int i = 0; i < limits.count(); ++i)
    if (const double us = load[at(i)] / limits[i].mb_per_s; us > busiest.second) busiest = {i, us};
  return busiest;
}

double most_of(const std::vector<double>& shares) { return *std::max_element(shares.begin(), shares.end()); }

}  // namespace

Coster::Coster(const Fabric& fabric, const Limits& limits)
    : fabric_(fabric), limits_(limits), sent_(at(fabric.ranks), 0), received_(at(fabric.ranks), 0) {
  for (Load* load : {&total_, &round_})
    for (auto of : {&Load::plain, &Load::strained, &Load::staged}) (load->*of).assign(at(limits.count()), 0.0);
}

Cost Coster::of(const Schedule& schedule) {
  require(schedule.ranks == fabric_.ranks, "a schedule is costed on a fabric of as many ranks");
  begin(schedule);
  Cost cost{.rounds = static_cast<int>(schedule.rounds.size()), .latency_us = fabric_.launch_ns / 1e3};
  for (const auto& round : schedule.rounds) add_round(round, cost);
  std::tie(cost.busiest, cost.steady_us_per_byte) = busiest_of(total_.strained, limits_);
  cost.load_us_per_byte = busiest_of(total_.plain, limits_).second;
  cost.combined_share = most_of(combined_share_);
  cost.sent_share = most_of(sent_share_);
  return cost;
}

std::string name_of_busiest(const Cost& cost, const Limits& limits, const Fabric& fabric) {
  return cost.rounds == 0 ? "nothing" : to_string(limits[cost.busiest], fabric);
}

void Coster::begin(const Schedule& schedule) {
  chunks_ = schedule.chunks;
  shares_ = shares_of(schedule);
  fans_.assign(at(schedule.ranks * schedule.chunks), 0);
  offered_.assign(fans_.size(), false);
  for (auto of : {&Load::plain, &Load::strained, &Load::staged}) std::fill((total_.*of).begin(), (total_.*of).end(), 0.0);
  for (auto* share : {&sent_share_, &combined_share_}) share->assign(at(schedule.ranks), 0.0);
}

void Coster::add_round(const std::vector<Transfer>& round, Cost& cost) {
  std::uint32_t latency_ns = 0;
  bool pulled = false;
  for (const Transfer& transfer : round) {
    const FabricLink& link = fabric_.link(transfer.from, transfer.to);
    latency_ns = std::max(latency_ns, link.latency_ns);
    pulled = pulled || link.pulled;
    if (limits_.through_root(transfer.from, transfer.to)) ++fans_[at(transfer.from * chunks_ + transfer.chunk)];
  }
  for (const Transfer& transfer : round) load(transfer);
  cost.latency_us += latency_ns / 1e3;
  cost.pulled_rounds += pulled;
  double us_per_byte = 0;
  for (const int limit : touched_) us_per_byte = std::max(us_per_byte, round_.strained[at(limit)] / limits_[limit].mb_per_s);
  cost.first_us_per_byte += std::max(us_per_byte, write_then_read_us());
  for (const Transfer& transfer : round) {
    fans_[at(transfer.from * chunks_ + transfer.chunk)] = 0;
    offered_[at(transfer.from * chunks_ + transfer.chunk)] = false;
  }
  cost.transfers += end_round();
}

/// Of a tile in host memory nothing is read before all of it is written: flags say so, and loads wait behind the stores that their multiprocessor
/// made before them. Stores and loads then have a fast slot to themselves.
double Coster::write_then_read_us() const {
  double out = 0, in = 0;
  for (const int limit : touched_) {
    const double us = round_.staged[at(limit)] / alone_mb_per_s(limits_[limit], fabric_);
    if (is(limit, ResourceKind::slot_out)) out = std::max(out, us);
    if (is(limit, ResourceKind::slot_in)) in = std::max(in, us);
  }
  return out + in;
}

void Coster::load(const Transfer& transfer) {
  const double share = shares_[at(transfer.chunk)];
  const bool again = is_offered_again(transfer);
  ++sent_[at(transfer.from)];
  ++received_[at(transfer.to)];
  if (!again) sent_share_[at(transfer.from)] += share;
  if (transfer.action == Action::reduce) combined_share_[at(transfer.to)] += share;
  const bool root = limits_.through_root(transfer.from, transfer.to);
  const double strained = root ? share * fan_out_strain(fans_[at(transfer.from * chunks_ + transfer.chunk)]) : share;
  const bool staged = fabric_.link(transfer.from, transfer.to).handover() == Handover::host;
  for (const int limit : again ? limits_.reading(transfer.from, transfer.to) : limits_.on(transfer.from, transfer.to)) {
    if (round_.plain[at(limit)] == 0) touched_.push_back(limit);
    round_.plain[at(limit)] += share;
    round_.strained[at(limit)] += strained;
    if (staged) round_.staged[at(limit)] += share;
  }
}

bool Coster::is(int limit, ResourceKind kind) const {
  const int resource = limits_[limit].resource;
  return resource >= 0 && fabric_.resources[at(resource)].kind == kind;
}

/// Does the receiver read what this round has offered to another already?
bool Coster::is_offered_again(const Transfer& transfer) {
  if (!limits_.offers(transfer.from, transfer.to)) return false;
  const std::size_t value = at(transfer.from * chunks_ + transfer.chunk);
  const bool again = offered_[value];
  offered_[value] = true;
  return again;
}

/// Adds the round's loads to the total and returns the most transfers of a rank.
int Coster::end_round() {
  for (const int limit : touched_)
    for (auto of : {&Load::plain, &Load::strained, &Load::staged}) {
      (total_.*of)[at(limit)] += (round_.*of)[at(limit)];
      (round_.*of)[at(limit)] = 0;
    }
  touched_.clear();
  const int most = std::max(*std::max_element(sent_.begin(), sent_.end()), *std::max_element(received_.begin(), received_.end()));
  std::fill(sent_.begin(), sent_.end(), 0);
  std::fill(received_.begin(), received_.end(), 0);
  return most;
}

Cost cost_of(const Schedule& schedule, const Fabric& fabric, const Limits& limits) { return Coster(fabric, limits).of(schedule); }

double Cost::predicted_us(double bytes, double tiles, const KernelCosts& kernels) const {
  const double instructions = instructions_us(tiles, kernels), combining = bytes * combined_share * kernels.combine_us_per_byte;
  const double further = bytes * (tiles - 1) / tiles, between = (tiles - 1) * walk.steps * kernels.tile_step_us;
  if (!kernels.walks) return latency_us + instructions + combining + bytes * first_us_per_byte / tiles + further * steady_us_per_byte;
  // Host memory is so slow that blocks' stores and loads hide what else one of them does between two steps; links between GPUs are not.
  const double moving = further * std::max(steady_us_per_byte, walk.us_per_byte) + std::max(between - further * walk.host_us_per_byte, 0.0);
  const double first = kernels.by_packs ? std::max(walk.first_us_per_byte, steady_us_per_byte) : first_us_per_byte;
  return latency_us + instructions + combining + bytes * first / tiles + moving;
}

double Cost::instructions_us(double tiles, const KernelCosts& kernels) const {
  const double passing = rounds * kernels.round_us + std::max(rounds - 1, 0) * kernels.relay_us + transfers * kernels.transfer_us;
  return kernels.call_us + passing + (tiles - 1) * transfers * kernels.tile_transfer_us + (tiles > 1 ? kernels.tiled_us : 0) + tiles * pulled_rounds * kernels.pull_us;
}

}  // namespace collectives
