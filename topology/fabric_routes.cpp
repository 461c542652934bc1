// A machine's links, as flows between its GPUs share them. Ways are shortest ways in links: PCIe is a tree, so there is one.
#include "topology/fabric_routes.hpp"

#include <algorithm>
#include <deque>

#include "base/integers.hpp"

namespace collectives {
namespace {

constexpr int nowhere = -1;

bool carries_bytes_of_slots(const Machine& machine, const Link& link) {
  if (link.kind != LinkKind::nvlink) return true;
  // Grace and POWER reach their GPUs by NVLink instead of a slot.
  return machine.nodes[at(link.from)].kind == NodeKind::cpu || machine.nodes[at(link.to)].kind == NodeKind::cpu;
}

/// The link by which each node is reached in the fewest links from `root`, never through a GPU.
std::vector<int> spread_from(const Machine& machine, int root) {
  std::vector<std::vector<int>> leaving(machine.nodes.size());
  for (std::size_t i = 0; i < machine.links.size(); ++i)
    if (carries_bytes_of_slots(machine, machine.links[i])) leaving[at(machine.links[i].from)].push_back(static_cast<int>(i));
  std::vector<int> reached_by(machine.nodes.size(), nowhere);
  std::deque<int> front{root};
  while (!front.empty()) {
    const int node = front.front();
    front.pop_front();
    if (node != root && machine.nodes[at(node)].kind == NodeKind::gpu) continue;
    for (const int link : leaving[at(node)]) {
      const int next = machine.links[at(link)].to;
      if (next == root || reached_by[at(next)] != nowhere) continue;
      reached_by[at(next)] = link;
      front.push_back(next);
    }
  }
  return reached_by;
}

/// Of a GPU's slot: what its flows reach together, on the way out of the GPU and into it.
double out_of_gpu(bool through_memory, double slot) { return through_memory ? std::min(healthy_pcie * slot, host_store_gb_per_s) : healthy_pcie * slot; }
double into_gpu(bool through_memory, double slot) { return through_memory ? std::min(healthy_pcie * slot, host_load_gb_per_s) : healthy_pcie * slot; }

}  // namespace

Routes::Routes(const FabricRanks& ranks) : ranks_(ranks) {
  const Machine& machine = ranks.machine();
  for (int rank = 0; rank < ranks.count(); ++rank)
    if (!trees_.contains(ranks.node(rank))) trees_[ranks.node(rank)] = spread_from(machine, ranks.node(rank));
  for (std::size_t node = 0; node < machine.nodes.size(); ++node)
    if (machine.nodes[node].kind == NodeKind::cpu) trees_[static_cast<int>(node)] = spread_from(machine, static_cast<int>(node));
}

void Routes::use(Way& way, ResourceKind kind, int first_node, int second_node, double gb_per_s) {
  const auto [found, fresh] = known_.emplace(std::tuple(kind, first_node, second_node), static_cast<std::uint16_t>(resources_.size()));
  if (fresh) resources_.push_back({kind, way.from, way.to, 0});
  // What is not known is guessed from the slots of those who pass: of different guesses the fastest, whoever comes first.
  auto& mb_per_s = resources_[found->second].mb_per_s;
  mb_per_s = std::max(mb_per_s, thousandths(gb_per_s));
  if (std::find(way.route.begin(), way.route.end(), found->second) == way.route.end()) way.route.push_back(found->second);
}

Routes::Route Routes::route(int from, int to) {
  Way way{from, to, false, {}};
  const int a = ranks_.node(from), b = ranks_.node(to);
  if (ranks_.share_gpu(from, to)) {
    use(way, ResourceKind::gpu_memory, a, a, local_rate.gb_per_s);
  } else if (ranks_.by_nvlink(from, to)) {
    if (const double port = port_gb_per_s(from); port > 0) use(way, ResourceKind::port_out, a, a, port);
    // The flow itself is the limit of links that one pair alone uses.
    if (ranks_.on_gpu_of(from) > 1 || ranks_.on_gpu_of(to) > 1) use(way, ResourceKind::nvlink, a, b, ranks_.rate(from, to).gb_per_s);
    if (const double port = port_gb_per_s(to); port > 0) use(way, ResourceKind::port_in, b, b, port);
  } else if (!ranks_.direct(from, to) && !ranks_.pulled(from, to)) {
    return staged(from, to);
  } else if (trees_.at(a)[at(b)] != nowhere) {
    walk(way, a, b);
  } else {
    between_slots(way);
  }
  return way.route;
}

Routes::Route Routes::staged(int from, int to) {
  Way way{from, to, true, {}};
  const int a = ranks_.node(from), b = ranks_.node(to), cpu = nearest_cpu(to);
  const bool known = cpu != nowhere && trees_.at(cpu)[at(b)] != nowhere && trees_.at(a)[at(cpu)] != nowhere;
  if (!known) {
    between_slots(way);
    return way.route;
  }
  walk(way, a, cpu);
  use(way, ResourceKind::host_memory, cpu, cpu, memory_slots() * ranks_.slot_gb_per_s(to));
  walk(way, cpu, b);
  return way.route;
}

void Routes::walk(Way& way, int from_node, int to_node) {
  std::vector<int> links;
  for (int node = to_node; node != from_node; node = ranks_.machine().links[at(links.back())].from)
    links.push_back(trees_.at(from_node)[at(node)]);
  for (auto link = links.rbegin(); link != links.rend(); ++link) use_link(way, *link);
}

void Routes::use_link(Way& way, int index) {
  const Machine& machine = ranks_.machine();
  const Link& link = machine.links[at(index)];
  // What a hypervisor shows above a GPU does not tell which GPUs share a root: four H200 behind one bridge each got all that a slot carries.
  if (link.kind == LinkKind::memory && link.evidence == Evidence::claimed && !machine.hypervisor.empty()) return;
  const bool from_gpu = machine.nodes[at(link.from)].kind == NodeKind::gpu, to_gpu = machine.nodes[at(link.to)].kind == NodeKind::gpu;
  const double slot = from_gpu ? ranks_.slot_gb_per_s(way.from)
                      : to_gpu ? ranks_.slot_gb_per_s(way.to)
                               : std::max(ranks_.slot_gb_per_s(way.from), ranks_.slot_gb_per_s(way.to));
  double rate = link.gb_per_s > 0 ? link.gb_per_s : slot;
  ResourceKind kind = ResourceKind::pcie;
  if (from_gpu) kind = ResourceKind::slot_out;
  if (to_gpu) kind = ResourceKind::slot_in;
  if (link.kind == LinkKind::memory) kind = ResourceKind::root;
  if (link.kind == LinkKind::socket) kind = ResourceKind::socket;
  if (link.kind == LinkKind::socket && link.gb_per_s == 0) rate = socket_slots * slot;
  use(way, kind, link.from, link.to, from_gpu ? out_of_gpu(way.through_memory, rate) : to_gpu ? into_gpu(way.through_memory, rate) : healthy_pcie * rate);
}

// What the names of paths say: each GPU has a slot, and whoever crosses sockets shares one link each way.
void Routes::between_slots(Way& way) {
  const int a = ranks_.node(way.from), b = ranks_.node(way.to);
  const double from_slot = ranks_.slot_gb_per_s(way.from), to_slot = ranks_.slot_gb_per_s(way.to);
  const int from_numa = ranks_.gpu(way.from).numa, to_numa = ranks_.gpu(way.to).numa;
  use(way, ResourceKind::slot_out, a, a, out_of_gpu(way.through_memory, from_slot));
  if (ranks_.path(way.from, way.to) == "SYS" && from_numa >= 0 && to_numa >= 0 && from_numa != to_numa)
    use(way, ResourceKind::socket, from_numa, to_numa, healthy_pcie * socket_slots * std::max(from_slot, to_slot));
  if (way.through_memory) use(way, ResourceKind::host_memory, to_numa, to_numa, memory_slots() * to_slot);
  use(way, ResourceKind::slot_in, b, b, into_gpu(way.through_memory, to_slot));
}

double Routes::memory_slots() const { return ranks_.machine().hypervisor.empty() ? host_memory_slots : virtual_memory_slots; }

// What a GPU sends to all its NVLink peers at once, where a switch shares its links out; 0 where each peer has its own.
double Routes::port_gb_per_s(int rank) const {
  double total = 0, fastest = 0;
  int links = 0, peers = 0;
  for (int other = 0; other < ranks_.count(); ++other) {
    if (!ranks_.by_nvlink(rank, other)) continue;
    bool counted = false;  // ranks that share a GPU are reached over the same links
    for (int before = 0; before < other; ++before) counted = counted || ranks_.share_gpu(before, other);
    if (counted) continue;
    ++peers;
    links += nvlinks_of(ranks_.path(rank, other));
    total += ranks_.rate(rank, other).gb_per_s;
    fastest = std::max(fastest, ranks_.rate(rank, other).gb_per_s);
  }
  // Rates without a path's name: no chip has links of its own for three peers at this rate.
  if (links == 0) return peers >= 3 && fastest >= 200 ? switched_share * fastest : 0;
  const int known = nvlinks_per_gpu(ranks_.gpu(rank).compute_capability);
  const int owned = known > 0 ? known : links / peers >= 6 ? links / peers : links;
  return links > owned ? total * owned / links * switched_share : 0;
}

// The memory that a rank reads: of its own NUMA node, or of the one that is the fewest links away.
int Routes::nearest_cpu(int rank) const {
  const Machine& machine = ranks_.machine();
  const auto& reached_by = trees_.at(ranks_.node(rank));
  const auto links_to = [&](int node) {
    int links = 0;
    for (; node != ranks_.node(rank); ++links) node = machine.links[at(reached_by[at(node)])].from;
    return links;
  };
  int best = nowhere;
  std::tuple<int, bool, int> best_key{};
  for (int node = 0; at(node) < machine.nodes.size(); ++node) {
    if (machine.nodes[at(node)].kind != NodeKind::cpu || reached_by[at(node)] == nowhere) continue;
    const int numa = machine.nodes[at(node)].numa;
    const std::tuple key{links_to(node), numa != ranks_.gpu(rank).numa, numa};
    if (best != nowhere && best_key <= key) continue;
    best = node;
    best_key = key;
  }
  return best;
}

}  // namespace collectives
