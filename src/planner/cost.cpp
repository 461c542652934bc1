#include "planner/cost.hpp"

#include <algorithm>
#include <vector>

#include "base/require.hpp"

// The model is alpha-beta. A round costs its slowest link's latency and what it takes to issue and poll a rank's transfers of that
// round one after the other; a round that waits for another's data costs the relay too. Tiles overlap rounds, so that bandwidth
// counts once, over all rounds: the busiest port or the busiest link sets the pace, and combining adds its own traffic in local
// memory. tests/test_cost.cpp holds it against what the direct kernels took on 2 and 4 H200 (CUDA 13.0, graph replay, bf16).

namespace collectives {
namespace {

constexpr double round_us = 0.1;     // a round's instructions beside the link: poll, barrier, address
constexpr double transfer_us = 0.2;  // each further peer that is stored to and polled in a round
constexpr double relay_us = 1.0;     // from the last poll of a round to the stores of the next, and back in step
constexpr double efficiency = 0.97;  // of a link's or port's rate, once tiles ramp up and down
constexpr double combine_us_per_byte = 0.6e-6;  // an operand is polled, added and cleared in local memory

struct Traffic {
  std::vector<int> sent;
  std::vector<int> received;
  std::vector<int> combined;
  std::vector<int> on_link;
};

void add(Traffic& traffic, const Transfer& transfer, int ranks) {
  ++traffic.sent[static_cast<std::size_t>(transfer.from)];
  ++traffic.received[static_cast<std::size_t>(transfer.to)];
  traffic.combined[static_cast<std::size_t>(transfer.to)] += transfer.action == Action::reduce;
  ++traffic.on_link[static_cast<std::size_t>(transfer.from * ranks + transfer.to)];
}

Traffic no_traffic(int ranks) {
  const auto n = static_cast<std::size_t>(ranks);
  return {std::vector<int>(n, 0), std::vector<int>(n, 0), std::vector<int>(n, 0), std::vector<int>(n * n, 0)};
}

int busiest(const Traffic& traffic) {
  return std::max(*std::max_element(traffic.sent.begin(), traffic.sent.end()),
                  *std::max_element(traffic.received.begin(), traffic.received.end()));
}

double us_per_byte(double share, std::uint32_t mb_per_s) { return share / (efficiency * std::max<std::uint32_t>(1, mb_per_s)); }

}  // namespace

Cost cost_of(const Schedule& schedule, const Fabric& fabric) {
  require(schedule.ranks == fabric.ranks, "a schedule is costed on a fabric of as many ranks");
  Cost cost{.fixed_us = fabric.launch_ns / 1e3};
  Traffic total = no_traffic(schedule.ranks);
  for (const auto& round : schedule.rounds) {
    Traffic traffic = no_traffic(schedule.ranks);
    std::uint32_t latency_ns = 0;
    for (const Transfer& transfer : round) {
      add(traffic, transfer, schedule.ranks);
      add(total, transfer, schedule.ranks);
      latency_ns = std::max(latency_ns, fabric.link(transfer.from, transfer.to).latency_ns);
    }
    cost.fixed_us += latency_ns / 1e3 + round_us + transfer_us * busiest(traffic);
  }
  cost.fixed_us += relay_us * static_cast<double>(schedule.rounds.size() - 1);
  const double chunks = schedule.chunks;
  cost.sent_share = *std::max_element(total.sent.begin(), total.sent.end()) / chunks;
  cost.us_per_byte = us_per_byte(busiest(total) / chunks, fabric.port_mb_per_s);
  for (std::size_t link = 0; link < total.on_link.size(); ++link)
    if (total.on_link[link] > 0)
      cost.us_per_byte = std::max(cost.us_per_byte, us_per_byte(total.on_link[link] / chunks, fabric.links[link].mb_per_s));
  cost.us_per_byte += combine_us_per_byte * *std::max_element(total.combined.begin(), total.combined.end()) / chunks;
  return cost;
}

}  // namespace collectives
