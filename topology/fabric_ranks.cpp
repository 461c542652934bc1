#include "topology/fabric_ranks.hpp"

#include <fmt/format.h>
#include <collectives/communicator.hpp>

#include <algorithm>

#include "base/require.hpp"

namespace collectives {

FabricRanks::FabricRanks(const Machine& machine, std::span<const int> devices) : machine_(machine) {
  require(!devices.empty() && devices.size() <= static_cast<std::size_t>(max_ranks),
          [&] { return fmt::format("expected 1 to {} ranks, found {}", max_ranks, devices.size()); });
  for (const int device : devices) nodes_.push_back(node_of(device));
  for (int rank = 0; rank < count(); ++rank) slots_.push_back(find_slot(rank));
}

int FabricRanks::on_gpu_of(int rank) const { return static_cast<int>(std::count(nodes_.begin(), nodes_.end(), node(rank))); }

bool FabricRanks::direct(int a, int b) const {
  if (share_gpu(a, b)) return true;
  const Peer* there = peer(a, b);
  const Peer* back = peer(b, a);
  return there && back && there->access && back->access && !there->pulled && !back->pulled;
}

bool FabricRanks::pulled(int a, int b) const {
  const Peer* there = peer(a, b);
  return !share_gpu(a, b) && there && there->pulled;
}

bool FabricRanks::by_nvlink(int a, int b) const {
  if (share_gpu(a, b) || !(direct(a, b) || pulled(a, b))) return false;
  const Peer& entry = *peer(a, b);
  return nvlinks_of(entry.path) > 0 || (entry.path.empty() && entry.gb_per_s > fastest_slot_gb_per_s);
}

std::string_view FabricRanks::path(int a, int b) const {
  const Peer* entry = peer(a, b);
  return entry ? std::string_view(entry->path) : std::string_view();
}

Rate FabricRanks::rate(int a, int b) const {
  if (share_gpu(a, b)) return local_rate;
  // With access one way only, the figures are of a path that will not be taken.
  if (!direct(a, b) && !pulled(a, b)) return staged(a, b);
  const int chip = std::min(gpu(a).compute_capability, gpu(b).compute_capability);
  Rate rate = direct_rate(path(a, b), chip, std::min(slot_gb_per_s(a), slot_gb_per_s(b)));
  const Peer& entry = *peer(a, b);
  if (entry.gb_per_s > 0) rate.gb_per_s = entry.gb_per_s;
  if (entry.latency_us > 0) rate.latency_us = entry.latency_us;
  // A reader is told through host memory that there is something to read, and the read is one way more.
  if (entry.pulled) rate.latency_us += staged(a, b).latency_us;
  return rate;
}

Rate FabricRanks::staged(int a, int b) const {
  Rate rate = staged_rate(std::min(slot_gb_per_s(a), slot_gb_per_s(b)));
  // Without access, what was measured between two GPUs came through host memory.
  if (const Peer* entry = peer(a, b); entry && !entry->access && !entry->pulled && entry->gb_per_s > 0) rate.gb_per_s = entry->gb_per_s;
  return rate;
}

double FabricRanks::slot_gb_per_s(int rank) const { return slots_[static_cast<std::size_t>(rank)]; }

int FabricRanks::node_of(int device) const {
  const auto gpus = machine_.gpus();
  for (const int node : gpus)
    if (device >= 0 && machine_.nodes[static_cast<std::size_t>(node)].device == device) return node;
  throw Error(ErrorCode::invalid_argument, fmt::format("this machine has no CUDA device {}; it has {} GPUs", device, gpus.size()));
}

double FabricRanks::find_slot(int rank) const {
  double slot = 0;
  for (const Link& link : machine_.links)
    if (link.kind == LinkKind::pcie && link.from == node(rank)) slot = std::max(slot, link.gb_per_s);
  if (slot > 0) return slot;
  for (const Peer& entry : machine_.peers) {
    const bool through_slot = entry.access && nvlinks_of(entry.path) == 0 && entry.gb_per_s <= fastest_slot_gb_per_s;
    if (through_slot && (entry.from == node(rank) || entry.to == node(rank))) slot = std::max(slot, entry.gb_per_s);
  }
  return slot > 0 ? slot : usual_slot_gb_per_s(gpu(rank).compute_capability);
}

}  // namespace collectives
