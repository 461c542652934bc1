#include "topology/verify_flows.hpp"

#include <algorithm>
#include <queue>

#include "topology/priors.hpp"

namespace collectives {
namespace {

/// The links of the shortest way from one node to another that takes no NVLink, by index; none if there is none.
std::vector<std::size_t> way(const Machine& machine, int from, int to) {
  std::vector<int> by(machine.nodes.size(), -1);  // the link that first reached a node
  std::queue<int> open;
  open.push(from);
  while (!open.empty()) {
    const int node = open.front();
    open.pop();
    for (std::size_t i = 0; i < machine.links.size(); ++i) {
      const Link& link = machine.links[i];
      if (link.from != node || link.kind == LinkKind::nvlink || link.to == from || by[static_cast<std::size_t>(link.to)] >= 0) continue;
      by[static_cast<std::size_t>(link.to)] = static_cast<int>(i);
      open.push(link.to);
    }
  }
  std::vector<std::size_t> links;
  for (int node = to; node != from && by[static_cast<std::size_t>(node)] >= 0;) {
    links.push_back(static_cast<std::size_t>(by[static_cast<std::size_t>(node)]));
    node = machine.links[links.back()].from;
  }
  return links;
}

/// One flow alone, in the direction in which its data go.
struct Flow {
  DevicePair pair;
  double gb_per_s = 0;
  bool nvlink = false;
  bool direct_nvlink = false;  ///< its NVLinks are its own
  std::vector<std::size_t> links;
};

std::vector<Flow> flows_of(const Machine& machine, const Verification& verification, Method method) {
  std::vector<Flow> flows;
  const auto node_of = [&](int device) {
    for (const int gpu : machine.gpus())
      if (machine.nodes[static_cast<std::size_t>(gpu)].device == device) return gpu;
    return -1;
  };
  for (const LinkVerdict& link : verification.links) {
    if (link.method != method || link.verdict != Verdict::ok || link.gb_per_s <= 0) continue;
    const int from = node_of(link.pair.from), to = node_of(link.pair.to);
    const Peer* peer = machine.peer(from, to);
    if (!peer) continue;
    Flow flow{link.pair, link.gb_per_s, nvlinks_of(peer->path) > 0, false, {}};
    if (flow.nvlink)
      flow.direct_nvlink = std::any_of(machine.links.begin(), machine.links.end(), [&](const Link& l) {
        return l.kind == LinkKind::nvlink && l.from == from && l.to == to;
      });
    else
      flow.links = method == Method::load ? way(machine, to, from) : way(machine, from, to);
    flows.push_back(std::move(flow));
  }
  return flows;
}

bool disjoint(DevicePair a, DevicePair b) { return a.from != b.from && a.from != b.to && a.to != b.from && a.to != b.to; }

/// The rate that what both go through leaves them, if they go through anything together.
std::optional<double> shared_rate(const Machine& machine, const Flow& a, const Flow& b) {
  const double both = a.gb_per_s + b.gb_per_s;
  if (a.nvlink && b.nvlink && !a.direct_nvlink && !b.direct_nvlink) return both;  // a switch carries all its ports
  std::optional<double> rate;
  for (const std::size_t link : a.links)
    if (std::find(b.links.begin(), b.links.end(), link) != b.links.end()) {
      const double known = machine.links[link].gb_per_s;
      rate = std::min(rate.value_or(both), known > 0 ? known : both);
    }
  // Whatever they share carries at least the faster of the two, as was seen.
  if (rate) return std::max({*rate, a.gb_per_s, b.gb_per_s});
  return rate;
}

}  // namespace

std::vector<FlowVerdict> flows_to_try(const Machine& machine, const Verification& verification) {
  std::vector<FlowVerdict> found;
  for (const Method method : {Method::store, Method::load}) {
    const auto flows = flows_of(machine, verification, method);
    std::size_t tried = 0;
    for (std::size_t a = 0; a < flows.size(); ++a)
      for (std::size_t b = a + 1; b < flows.size() && tried < most_flows / 2; ++b) {
        if (!disjoint(flows[a].pair, flows[b].pair)) continue;
        const auto rate = shared_rate(machine, flows[a], flows[b]);
        if (!rate) continue;
        found.push_back({flows[a].pair, flows[b].pair, method, 0, *rate, false});
        ++tried;
      }
  }
  return found;
}

}  // namespace collectives
