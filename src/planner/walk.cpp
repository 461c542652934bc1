#include "planner/walk.hpp"

#include <algorithm>
#include <vector>

#include "base/integers.hpp"
#include "base/require.hpp"

namespace collectives {
namespace {

struct StepTime {
  double us_per_byte = 0;
  bool host = false;
  double begun = 0, done = -1;  ///< of the one tile
};

class Walker {
 public:
  Walker(std::span<const Program> programs, const Fabric& fabric, const Limits& limits)
      : programs_(programs), fabric_(fabric), limits_(limits), load_(at(limits.count()), 0.0), over_links_(load_) {}

  Walk run() {
    Walk walk;
    for (const Program& program : programs_) {
      auto& times = times_.emplace_back();
      double host = 0;
      std::fill(over_links_.begin(), over_links_.end(), 0.0);
      for (const Step& step : program.steps) {
        times.push_back(time_of(program, step));
        if (times.back().host) host += times.back().us_per_byte;
      }
      walk.steps = std::max(walk.steps, static_cast<int>(program.steps.size()));
      double all = host;
      for (const double us : over_links_) all = std::max(all, host + us);
      if (all <= walk.us_per_byte) continue;
      walk.us_per_byte = all;
      walk.host_us_per_byte = host;
    }
    walk.first_us_per_byte = pass_one_tile();
    // Two ranks' blocks that have only host memory between them drift apart until some write while others read: two H200 take 1889 us for 64 MB in one
    // round, where writing and then reading would take 2650.
    if (fabric_.ranks == 2 && fabric_.meets_on_host()) walk.us_per_byte = 0;
    return walk;
  }

 private:
  StepTime time_of(const Program& program, const Step& step) {
    const double share = static_cast<double>(program.bounds[at(step.chunk + 1)] - program.bounds[at(step.chunk)]) / program.bounds.back();
    StepTime time;
    for (const Edge& edge : step.receives) {
      const Handover by = fabric_.link(edge.peer, program.rank).handover();
      time.host = time.host || by == Handover::host;
      if (by != Handover::push) add(limits_.on(edge.peer, program.rank), share, by == Handover::host, true);
    }
    for (std::size_t send = 0; send < step.sends.size(); ++send) {
      const int peer = step.sends[send].peer;
      const Handover by = fabric_.link(program.rank, peer).handover();
      time.host = time.host || by == Handover::host;
      if (by != Handover::pull && !repeats(step, send)) add(limits_.on(program.rank, peer), share, by == Handover::host, false);
    }
    for (const int limit : touched_) {
      const double us = load_[at(limit)] / alone_mb_per_s(limits_[limit], fabric_);
      time.us_per_byte = std::max(time.us_per_byte, us);
      if (!time.host) over_links_[at(limit)] += us;
      load_[at(limit)] = 0;
    }
    touched_.clear();
    return time;
  }

  /// Of a way through host memory, the slot into its reader if that reads, and all but that if another writes.
  void add(std::span<const int> way, double share, bool host, bool reads) {
    for (const int limit : way) {
      const int resource = limits_[limit].resource;
      const bool into = resource >= 0 && fabric_.resources[at(resource)].kind == ResourceKind::slot_in;
      if (host && into != reads) continue;
      if (load_[at(limit)] == 0) touched_.push_back(limit);
      load_[at(limit)] += share;
    }
  }

  double pass_one_tile() {
    std::vector<std::size_t> next(programs_.size(), 0);
    double last = 0;
    for (bool moved = true; moved;) {
      moved = false;
      for (std::size_t rank = 0; rank < programs_.size(); ++rank)
        while (next[rank] < programs_[rank].steps.size() && pass(rank, next[rank])) {
          last = std::max(last, times_[rank][next[rank]++].done);
          moved = true;
        }
    }
    for (std::size_t rank = 0; rank < programs_.size(); ++rank)
      ensure(next[rank] == programs_[rank].steps.size(), "a program waits for what nobody sends");
    return last;
  }

  /// Does a step of the one tile, if what it takes is under way by then. False if it is not.
  bool pass(std::size_t rank, std::size_t index) {
    const Step& step = programs_[rank].steps[index];
    StepTime& time = times_[rank][index];
    double begin = index > 0 ? times_[rank][index - 1].done : 0, end = 0;
    for (const Edge& edge : step.receives) {
      const StepTime& sender = sender_of(edge, static_cast<int>(rank));
      if (sender.done < 0) return false;
      // Pack by pack, as they come over a link; out of host memory once the stores there have left their slot.
      const bool link = fabric_.link(edge.peer, static_cast<int>(rank)).handover() == Handover::push;
      begin = std::max(begin, link ? sender.begun : sender.done);
      end = std::max(end, sender.done);
    }
    time.begun = begin;
    time.done = std::max(begin + time.us_per_byte, end);
    return true;
  }

  const StepTime& sender_of(const Edge& edge, int rank) const {
    const auto& steps = programs_[edge.peer].steps;
    const auto found = std::find_if(steps.begin(), steps.end(), [&](const Step& step) {
      return std::any_of(step.sends.begin(), step.sends.end(), [&](const Edge& send) { return send.peer == rank && send.lane == edge.lane; });
    });
    ensure(found != steps.end(), "a program takes what nobody sends");
    return times_[edge.peer][static_cast<std::size_t>(found - steps.begin())];
  }

  std::span<const Program> programs_;
  const Fabric& fabric_;
  const Limits& limits_;
  std::vector<double> load_;
  std::vector<int> touched_;
  std::vector<double> over_links_;  ///< by limit, of all of a rank's steps that leave host memory alone
  std::vector<std::vector<StepTime>> times_;  ///< by rank
};

}  // namespace

Walk walk_of(std::span<const Program> programs, const Fabric& fabric, const Limits& limits) { return Walker(programs, fabric, limits).run(); }

}  // namespace collectives
