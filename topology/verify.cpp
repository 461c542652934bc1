// The order of a verification: first whether every link is right by every method, then how fast those are that are right, then
// what two flows leave each other.
#include <collectives/verify.hpp>

#include <algorithm>
#include <chrono>
#include <set>
#include <utility>

#include "topology/graph.hpp"
#include "topology/verify_child.hpp"
#include "topology/verify_flows.hpp"

namespace collectives {
namespace {

/// Under this part of the prediction two flows are more than in each other's way.
constexpr double collapse = 0.5;

std::vector<DevicePair> claimed_pairs(const Machine& machine) {
  std::vector<DevicePair> pairs;
  for (const int from : machine.gpus())
    for (const int to : machine.gpus()) {
      const Peer* peer = from == to ? nullptr : machine.peer(from, to);
      const int a = machine.nodes[static_cast<std::size_t>(from)].device, b = machine.nodes[static_cast<std::size_t>(to)].device;
      if (peer && peer->access && a >= 0 && b >= 0) pairs.push_back({a, b});
    }
  return pairs;
}

/// Times what follows the end of the stage before.
class Stages {
 public:
  explicit Stages(std::vector<StageTime>& times) : times_(times) {}
  void end(const char* stage) {
    const auto now = Clock::now();
    times_.push_back({stage, std::chrono::duration<double, std::milli>(now - begun_).count()});
    begun_ = now;
  }

 private:
  using Clock = std::chrono::steady_clock;
  std::vector<StageTime>& times_;
  Clock::time_point begun_ = Clock::now();
};

class LinkTrials {
 public:
  LinkTrials(const Machine& machine, ProbeChild& child, Stages& stages) : machine_(machine), child_(child), stages_(stages) {}

  Verification all(bool flows) {
    const auto pairs = claimed_pairs(machine_);
    // The library's own way first: where it hangs, the others are not worth a killed process each.
    for (const Method method : {Method::flag, Method::store, Method::load, Method::copy_engine}) check(method, pairs);
    stages_.end("checks of links");
    for (const Method method : {Method::store, Method::load, Method::copy_engine}) measure_rates(method);
    stages_.end("rates");
    measure_latencies();
    stages_.end("latencies");
    if (flows) measure_flows();
    stages_.end("pairs of flows");
    return std::move(result_);
  }

 private:
  std::vector<Report> run(Probe probe, Method method, std::vector<DevicePair> pairs) {
    return child_.run({next_step_++, probe, method, std::move(pairs)});
  }

  LinkVerdict* entry(DevicePair pair, Method method) {
    for (LinkVerdict& link : result_.links)
      if (link.pair == pair && link.method == method) return &link;
    return nullptr;
  }

  std::vector<DevicePair> right_by(Method method) const {
    std::vector<DevicePair> pairs;
    for (const LinkVerdict& link : result_.links)
      if (link.method == method && link.verdict == Verdict::ok) pairs.push_back(link.pair);
    return pairs;
  }

  void check(Method method, const std::vector<DevicePair>& pairs) {
    std::vector<DevicePair> worth;
    for (const DevicePair pair : pairs) {
      if (hung_.contains(pair))
        result_.links.push_back({pair, method, Verdict::hang, -1, 0, 0, "not tried: this pair hung before"});
      else
        worth.push_back(pair);
    }
    for (auto& round : rounds_of(worth))
      for (const Report& report : run(Probe::check, method, std::move(round))) {
        result_.links.push_back({report.pair, method, report.verdict, report.first_bad_offset, 0, 0, report.reason});
        if (report.verdict == Verdict::hang) hung_.insert(report.pair);
      }
  }

  /// What cannot be measured stays unmeasured; a hang here is one, too.
  template <typename Put>
  void measure(Probe probe, Method method, std::vector<std::vector<DevicePair>> rounds, Put put) {
    for (auto& round : rounds)
      for (const Report& report : run(probe, method, std::move(round))) {
        if (LinkVerdict* link = entry(report.pair, method); report.verdict == Verdict::hang && link) {
          link->verdict = Verdict::hang;
          link->reason = report.reason;
        }
        if (report.verdict == Verdict::ok) put(report);
      }
  }

  /// One pair at a time: what two leave each other is for `measure_flows` to say.
  void measure_rates(Method method) {
    std::vector<std::vector<DevicePair>> alone;
    for (const DevicePair pair : right_by(method)) alone.push_back({pair});
    measure(Probe::rate, method, std::move(alone), [&](const Report& report) { entry(report.pair, method)->gb_per_s = report.figure; });
  }

  /// There and back in one, so one direction measures both.
  void measure_latencies() {
    std::vector<DevicePair> pairs;
    const auto right = right_by(Method::flag);
    for (const DevicePair pair : right)
      if (pair.from < pair.to && std::find(right.begin(), right.end(), DevicePair{pair.to, pair.from}) != right.end()) pairs.push_back(pair);
    measure(Probe::latency, Method::flag, rounds_of(pairs), [&](const Report& report) {
      entry(report.pair, Method::flag)->latency_us = report.figure;
      entry({report.pair.to, report.pair.from}, Method::flag)->latency_us = report.figure;
    });
  }

  void measure_flows() {
    for (FlowVerdict flow : flows_to_try(machine_, result_)) {
      bool both = true;
      for (const Report& report : run(Probe::rate, flow.method, {flow.first, flow.second})) {
        both = both && report.verdict == Verdict::ok;
        flow.gb_per_s += report.figure;
      }
      flow.collapsed = both && flow.gb_per_s < collapse * flow.predicted;
      if (both) result_.flows.push_back(flow);
    }
  }

  const Machine& machine_;
  ProbeChild& child_;
  Stages& stages_;
  Verification result_;
  std::set<DevicePair> hung_;
  int next_step_ = 0;
};

}  // namespace

const LinkVerdict* Verification::find(DevicePair pair, Method method) const {
  for (const LinkVerdict& link : links)
    if (link.pair == pair && link.method == method) return &link;
  return nullptr;
}

LinkVerifier::LinkVerifier(VerifyOptions options) : options_(std::move(options)), child_(std::make_unique<ProbeChild>(options_)) { child_->launch(); }
LinkVerifier::~LinkVerifier() = default;

Verification LinkVerifier::verify(const Machine& machine) {
  validate(machine);
  Stages stages(times_);
  if (!claimed_pairs(machine).empty() && child_->start()) stages.end("wait for CUDA");
  Verification found = LinkTrials(machine, *child_, stages).all(options_.flows);
  in_doubt_ = std::any_of(found.links.begin(), found.links.end(), [](const LinkVerdict& link) { return link.verdict != Verdict::ok; });
  return found;
}

std::vector<AllReduceCheck> LinkVerifier::check_all_reduce(const std::vector<int>& devices, bool through_host, const std::vector<std::size_t>& bytes) {
  Stages stages(times_);
  if (std::exchange(in_doubt_, false)) child_->stop();
  const auto patience = static_cast<std::uint32_t>(options_.all_reduce_timeout.count() / 3);
  auto checks = child_->run(AllReduceStep{devices, through_host, patience, bytes});
  stages.end(through_host ? "all-reduces through host memory" : "all-reduces");
  return checks;
}

void LinkVerifier::abandon() { child_->abandon(); }

Verification verify_machine(const Machine& machine, const VerifyOptions& options) { return LinkVerifier(options).verify(machine); }

}  // namespace collectives
