#include "planner/cost.hpp"

#include <algorithm>
#include <map>
#include <numeric>
#include <tuple>
#include <vector>

#include "base/require.hpp"

namespace collectives {
namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

/// What some transfers ask of ranks and limits.
struct Traffic {
  Traffic(int ranks, int limits) : sent(at(ranks), 0), received(at(ranks), 0), load(at(limits), 0.0), strained(at(limits), 0.0) {}

  std::vector<int> sent;
  std::vector<int> received;
  std::vector<double> load;      ///< of each limit, in messages
  std::vector<double> strained;  ///< the same, where fanning out through a root costs bandwidth

  int most_transfers() const { return std::max(*std::max_element(sent.begin(), sent.end()), *std::max_element(received.begin(), received.end())); }
};

std::vector<double> shares_of(const Schedule& schedule) {
  if (schedule.weights.empty()) return std::vector<double>(at(schedule.chunks), 1.0 / schedule.chunks);
  const double total = std::accumulate(schedule.weights.begin(), schedule.weights.end(), 0.0);
  std::vector<double> shares;
  for (const std::uint32_t weight : schedule.weights) shares.push_back(weight / total);
  return shares;
}

Traffic traffic_of(const std::vector<Transfer>& round, const std::vector<double>& shares, const Limits& limits) {
  Traffic traffic(limits.ranks(), limits.count());
  std::map<std::pair<int, int>, int> fans;  // peers that a rank stores one chunk to through a root
  for (const Transfer& transfer : round)
    if (limits.through_root(transfer.from, transfer.to)) ++fans[{transfer.from, transfer.chunk}];
  for (const Transfer& transfer : round) {
    ++traffic.sent[at(transfer.from)];
    ++traffic.received[at(transfer.to)];
    const bool root = limits.through_root(transfer.from, transfer.to);
    const double strain = root ? fan_out_strain(fans[{transfer.from, transfer.chunk}]) : 1, share = shares[at(transfer.chunk)];
    for (const int limit : limits.on(transfer.from, transfer.to)) {
      traffic.load[at(limit)] += share;
      traffic.strained[at(limit)] += share * strain;
    }
  }
  return traffic;
}

/// The limit that takes longest, and how long it takes for a byte of the message.
std::pair<int, double> busiest_of(const std::vector<double>& load, const Limits& limits) {
  std::pair<int, double> busiest{0, 0.0};
  for (int i = 0; i < limits.count(); ++i)
    if (const double us = load[at(i)] / limits[i].mb_per_s; us > busiest.second) busiest = {i, us};
  return busiest;
}

double most_of(const Schedule& schedule, const std::vector<double>& shares, bool sent) {
  std::vector<double> total(at(schedule.ranks), 0.0);
  for (const auto& round : schedule.rounds)
    for (const Transfer& transfer : round)
      if (sent || transfer.action == Action::reduce) total[at(sent ? transfer.from : transfer.to)] += shares[at(transfer.chunk)];
  return *std::max_element(total.begin(), total.end());
}

}  // namespace

Cost cost_of(const Schedule& schedule, const Fabric& fabric, const Limits& limits) {
  require(schedule.ranks == fabric.ranks, "a schedule is costed on a fabric of as many ranks");
  const auto shares = shares_of(schedule);
  Cost cost{.rounds = static_cast<int>(schedule.rounds.size()), .latency_us = fabric.launch_ns / 1e3};
  Traffic total(fabric.ranks, limits.count());
  for (const auto& round : schedule.rounds) {
    const Traffic traffic = traffic_of(round, shares, limits);
    for (std::size_t i = 0; i < total.load.size(); ++i) {
      total.load[i] += traffic.load[i];
      total.strained[i] += traffic.strained[i];
    }
    cost.first_us_per_byte += busiest_of(traffic.strained, limits).second;
    cost.transfers += traffic.most_transfers();
    std::uint32_t latency_ns = 0;
    for (const Transfer& transfer : round) latency_ns = std::max(latency_ns, fabric.link(transfer.from, transfer.to).latency_ns);
    cost.latency_us += latency_ns / 1e3;
  }
  std::tie(cost.busiest, cost.steady_us_per_byte) = busiest_of(total.strained, limits);
  cost.load_us_per_byte = busiest_of(total.load, limits).second;
  cost.combined_share = most_of(schedule, shares, false);
  cost.sent_share = most_of(schedule, shares, true);
  return cost;
}

std::string name_of_busiest(const Cost& cost, const Limits& limits, const Fabric& fabric) {
  return cost.rounds == 0 ? "nothing" : to_string(limits[cost.busiest], fabric);
}

double Cost::predicted_us(double bytes, double tiles, const KernelCosts& kernels) const {
  const double passing = rounds * kernels.round_us + std::max(rounds - 1, 0) * kernels.relay_us + transfers * kernels.transfer_us;
  const double instructions = kernels.call_us + passing + (tiles - 1) * transfers * kernels.tile_transfer_us;
  const double moving = bytes * (first_us_per_byte + (tiles - 1) * steady_us_per_byte) / tiles;
  return latency_us + instructions + moving + bytes * combined_share * kernels.combine_us_per_byte;
}

}  // namespace collectives
