#include <collectives/communicator.hpp>
#include <collectives/groups.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <numeric>

#include "base/require.hpp"
#include "planner/limits.hpp"
#include "planner/planner.hpp"

// There are up to 12870 groups of one size, and a plan takes milliseconds. So every group gets a sketch first: what the direct
// algorithms and one greedy ring load onto what its flows share, in microseconds of a core. Groups with equal sketches, equal GPUs,
// equal flows and equal loads are of one kind, and only one of a kind is planned: what a plan takes does not depend on how its ranks
// are numbered. Sketches are no bound: a kind that packed trees favour may stand too far down the list to be
// planned, where there are more kinds than `most`.

namespace collectives {
namespace {

using Ranks = std::vector<int>;

/// A kind of group: its sketch in whole nanoseconds, and a digest of all that tells it from others.
using Kind = std::pair<std::int64_t, std::uint64_t>;

struct Members {
  Ranks first;
  std::size_t count = 0;
};

class Digest {
 public:
  void add(std::uint64_t value) { state_ = std::rotl(state_ ^ value * 0x9e3779b97f4a7c15u, 27) * 0xff51afd7ed558ccdu; }
  std::uint64_t value() const { return state_; }

 private:
  std::uint64_t state_ = 0x243f6a8885a308d3u;
};

/// What flows load onto each limit, in messages.
class Loads {
 public:
  explicit Loads(const Limits& limits) : limits_(limits), loads_(static_cast<std::size_t>(limits.count()), 0.0f) {}
  void clear() { std::fill(loads_.begin(), loads_.end(), 0.0f); }
  void add(int from, int to) {
    for (const int limit : limits_.on(from, to)) loads_[static_cast<std::size_t>(limit)] += 1;
  }
  double us_per_byte() const {
    double most = 0;
    for (int i = 0; i < limits_.count(); ++i) most = std::max(most, static_cast<double>(load(i)) / limits_[i].mb_per_s);
    return most;
  }
  float load(int limit) const { return loads_[static_cast<std::size_t>(limit)]; }

 private:
  const Limits& limits_;
  std::vector<float> loads_;
};

class Sketcher {
 public:
  Sketcher(const Machine& machine, const std::vector<int>& devices, const std::vector<Work>& work)
      : fabric_(fabric_of(machine, devices)), limits_(fabric_), loads_(limits_), work_(work) {
    for (const int device : devices) {
      const auto gpus = machine.gpus();
      const auto gpu = std::find_if(gpus.begin(), gpus.end(),
                                    [&](int index) { return machine.nodes[static_cast<std::size_t>(index)].device == device; });
      const Node& node = machine.nodes[static_cast<std::size_t>(*gpu)];
      Digest chip;
      for (const std::uint64_t value :
           {static_cast<std::uint64_t>(node.compute_capability), static_cast<std::uint64_t>(node.multiprocessors), node.memory_bytes})
        chip.add(value);
      chips_.push_back(chip.value());
    }
  }

  Kind kind_of(const Ranks& group) {
    loads_.clear();
    for (const int from : group)
      for (const int to : group)
        if (from != to) loads_.add(from, to);
    const std::uint64_t digest = digest_of(group);
    const double direct = loads_.us_per_byte(), direct_latency = slowest(group);
    const auto [ring, ring_latency] = ring_of(group);
    const auto n = static_cast<double>(group.size());
    double us = 0;
    for (const Work& work : work_) {
      const double bytes = static_cast<double>(work.request.count * size_of(work.request.type));
      us += work.times * std::min({direct_latency + bytes * direct, 2 * direct_latency + bytes * direct * 2 / n,
                                   2 * (n - 1) * ring_latency + bytes * ring * 2 * (n - 1) / n});
    }
    return {std::llround(us * 1e3), digest};
  }

 private:
  double slowest(const Ranks& group) const {
    std::uint32_t most = 0;
    for (const int from : group)
      for (const int to : group)
        if (from != to) most = std::max(most, fabric_.link(from, to).latency_ns);
    return most * 1e-3;
  }

  /// What the load of a greedy ring takes, and its slowest hop.
  std::pair<double, double> ring_of(Ranks group) {
    loads_.clear();
    double latency = 0;
    const int first = group[0];
    for (std::size_t at = 0; at < group.size(); ++at) {
      const int from = group[at];
      const auto better = [&](int a, int b) { return fabric_.link(from, a).mb_per_s < fabric_.link(from, b).mb_per_s; };
      if (at + 1 < group.size())
        std::iter_swap(group.begin() + static_cast<std::ptrdiff_t>(at) + 1,
                       std::max_element(group.begin() + static_cast<std::ptrdiff_t>(at) + 1, group.end(), better));
      const int to = at + 1 < group.size() ? group[at + 1] : first;
      loads_.add(from, to);
      latency = std::max(latency, fabric_.link(from, to).latency_ns * 1e-3);
    }
    return {loads_.us_per_byte(), latency};
  }

  /// Of what does not change when ranks change their names.
  std::uint64_t digest_of(const Ranks& group) const {
    std::vector<std::uint64_t> rows, flows;
    for (const int rank : group) {
      flows.clear();
      for (const int other : group) {
        if (other == rank) continue;
        Digest flow;
        for (const FabricLink* link : {&fabric_.link(rank, other), &fabric_.link(other, rank)})
          for (const std::uint64_t value : {std::uint64_t{link->direct}, std::uint64_t{link->mb_per_s}, std::uint64_t{link->latency_ns}})
            flow.add(value);
        flows.push_back(flow.value());
      }
      rows.push_back(digest_of(flows, chips_[static_cast<std::size_t>(rank)]));
    }
    std::vector<std::uint64_t> loads;
    for (int limit = 0; limit < limits_.count(); ++limit)
      if (loads_.load(limit) > 0)
        loads.push_back(std::uint64_t{limits_[limit].mb_per_s} << 32 | static_cast<std::uint64_t>(loads_.load(limit)));
    return digest_of(loads, digest_of(rows, 0));
  }

  static std::uint64_t digest_of(std::vector<std::uint64_t> values, std::uint64_t beginning) {
    std::sort(values.begin(), values.end());
    Digest all;
    all.add(beginning);
    for (const std::uint64_t value : values) all.add(value);
    return all.value();
  }

  Fabric fabric_;
  Limits limits_;
  Loads loads_;
  std::vector<std::uint64_t> chips_;
  const std::vector<Work>& work_;
};

/// Every group of `size` ranks below `count`, in lexicographic order.
template <typename Visit>
void for_each_group(int count, int size, Visit visit) {
  Ranks group(static_cast<std::size_t>(size));
  std::iota(group.begin(), group.end(), 0);
  while (true) {
    visit(group);
    int last = size - 1;
    while (last >= 0 && group[static_cast<std::size_t>(last)] == count - size + last) --last;
    if (last < 0) return;
    std::iota(group.begin() + last, group.end(), group[static_cast<std::size_t>(last)] + 1);
  }
}

Group planned(const Machine& machine, const std::vector<int>& among, const Members& members, const std::vector<Work>& work) {
  Group group;
  for (const int rank : members.first) group.devices.push_back(among[static_cast<std::size_t>(rank)]);
  group.alike = members.count;
  const Planner planner = planner_on(machine, group.devices);
  for (const Work& each : work) {
    group.each_us.push_back(planner.plan(each.request).predicted_us);
    group.predicted_us += each.times * group.each_us.back();
  }
  return group;
}

void require_sound(const std::vector<int>& among, int size, const std::vector<Work>& work) {
  require(!work.empty(), "a search for groups needs some work to compare them by");
  require(among.size() <= static_cast<std::size_t>(max_ranks),
          [&] { return "groups are searched among at most 16 GPUs, not " + std::to_string(among.size()); });
  require(size >= 2 && static_cast<std::size_t>(size) <= among.size(),
          [&] { return "a group of " + std::to_string(size) + ": expected 2 to " + std::to_string(among.size()) + " GPUs"; });
}

}  // namespace

GroupSearch search_groups(const Machine& machine, const std::vector<int>& among, int size, const std::vector<Work>& work,
                          std::size_t most) {
  require_sound(among, size, work);
  std::vector<int> devices = among;
  std::sort(devices.begin(), devices.end());
  Sketcher sketcher(machine, devices, work);
  std::map<Kind, Members> kinds;
  GroupSearch search;
  for_each_group(static_cast<int>(devices.size()), size, [&](const Ranks& group) {
    Members& members = kinds[sketcher.kind_of(group)];
    if (members.count++ == 0) members.first = group;
    ++search.looked_at;
  });
  search.kinds = kinds.size();
  std::size_t place = 0;
  for (const auto& [kind, members] : kinds) {
    ++place;
    if (place <= most || place == kinds.size()) search.groups.push_back(planned(machine, devices, members, work));
  }
  std::stable_sort(search.groups.begin(), search.groups.end(),
                   [](const Group& a, const Group& b) { return a.predicted_us < b.predicted_us; });
  return search;
}

}  // namespace collectives
