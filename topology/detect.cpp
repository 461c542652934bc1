#include "topology/detect.hpp"

#include <algorithm>

#include "topology/graph.hpp"
#include "topology/priors.hpp"

namespace collectives {

int Detection::add(Node node) {
  machine.nodes.push_back(std::move(node));
  slot_gb_per_s.push_back(0);
  return static_cast<int>(machine.nodes.size()) - 1;
}

Peer& Detection::peer(int from, int to) {
  for (Peer& peer : machine.peers)
    if (peer.from == from && peer.to == to) return peer;
  Peer fresh;
  fresh.from = from;
  fresh.to = to;
  return machine.peers.emplace_back(std::move(fresh));
}

double Detection::slot(int node) const { return slot_gb_per_s[static_cast<std::size_t>(node)]; }

Link nvlink(int from, int to, double gb_per_s) {
  Link link;
  link.from = from;
  link.to = to;
  link.kind = LinkKind::nvlink;
  link.gb_per_s = gb_per_s;
  return link;
}

void complete(Detection& detection) {
  Machine& machine = detection.machine;
  const auto chip = [&](int node) { return machine.nodes[static_cast<std::size_t>(node)].compute_capability; };
  const auto slot = [&](int node) { return detection.slot(node) > 0 ? detection.slot(node) : usual_slot_gb_per_s(chip(node)); };
  for (Peer& peer : machine.peers) {
    if (!peer.access) continue;
    const Rate rate = direct_rate(peer.path, std::min(chip(peer.from), chip(peer.to)), std::min(slot(peer.from), slot(peer.to)));
    peer.gb_per_s = rate.gb_per_s;
    peer.latency_us = rate.latency_us;
  }
  for (const int gpu : machine.gpus()) {
    const int number = machine.nodes[static_cast<std::size_t>(gpu)].numa;
    const int cpu = number < 0 ? -1 : numa_node(machine, number);
    if (cpu < 0) continue;
    for (const auto& [from, to] : {std::pair{gpu, cpu}, std::pair{cpu, gpu}}) {
      Link link;
      link.from = from;
      link.to = to;
      link.gb_per_s = detection.slot(gpu);
      machine.links.push_back(link);
    }
  }
}

Machine detect_machine() {
  Detection detection;
  add_cuda(detection);
#if COLLECTIVES_HAS_CUDA
  add_nvml(detection);
#endif
  add_hwloc(detection);
  complete(detection);
  return std::move(detection.machine);
}

}  // namespace collectives
