#include "comm/reach.hpp"

#include <fmt/format.h>

#include "base/log.hpp"
#include "base/require.hpp"

namespace collectives {
namespace {

/// "0-2, 1-2 (reason); 0-1 (another)" of some pairs, and how many they are.
struct NamedPairs {
  int count = 0;
  std::string text;
};

NamedPairs pairs_that(const KnownFabric& known, const std::function<bool(int, int)>& are) {
  std::map<std::string, std::string> by_reason;
  NamedPairs pairs;
  for (int a = 0; a < known.fabric.ranks; ++a)
    for (int b = a + 1; b < known.fabric.ranks; ++b) {
      if (!are(a, b)) continue;
      ++pairs.count;
      const auto reason = known.reasons.find({a, b});
      std::string& listed = by_reason[reason == known.reasons.end() ? "no reason is known" : reason->second];
      listed += fmt::format("{}{}-{}", listed.empty() ? "" : ", ", a, b);
    }
  for (const auto& [reason, listed] : by_reason) pairs.text += fmt::format("{}{} ({})", pairs.text.empty() ? "" : "; ", listed, reason);
  return pairs;
}

NamedPairs host_pairs(const KnownFabric& known) {
  return pairs_that(known, [&](int a, int b) { return known.fabric.meet_on_host(a, b); });
}

NamedPairs pulled_pairs(const KnownFabric& known) {
  return pairs_that(known, [&](int a, int b) { return !known.fabric.meet_on_host(a, b) && known.fabric.link(a, b).pulled; });
}

void note(KnownFabric& known, const char* reason) {
  for (int a = 0; a < known.fabric.ranks; ++a)
    for (int b = a + 1; b < known.fabric.ranks; ++b)
      if (known.fabric.meet_on_host(a, b)) known.reasons.try_emplace({a, b}, reason);
}

}  // namespace

PairReasons reasons_of(const Machine& machine, const std::vector<int>& devices) {
  const auto reason_of = [&](int from, int to) -> std::string {
    const auto node_of = [&](int device) {
      for (const int node : machine.gpus())
        if (machine.nodes[static_cast<std::size_t>(node)].device == device) return node;
      return -1;
    };
    const Peer* peer = machine.peer(node_of(from), node_of(to));
    if (peer == nullptr) return "the machine's description does not say that they have access";
    if (peer->access && !peer->pulled) return {};
    return peer->reason.empty() ? "no peer access" : peer->reason;
  };
  PairReasons reasons;
  const int ranks = static_cast<int>(devices.size());
  for (int a = 0; a < ranks; ++a)
    for (int b = a + 1; b < ranks; ++b) {
      const int from = devices[static_cast<std::size_t>(a)], to = devices[static_cast<std::size_t>(b)];
      if (from == to) continue;
      std::string reason = reason_of(from, to);
      if (reason.empty()) reason = reason_of(to, from);
      if (!reason.empty()) reasons[{a, b}] = reason;
    }
  return reasons;
}

void refuse_pairs(KnownFabric& known, const std::string& reason, const std::function<bool(int, int)>& refused) {
  apply_peer_policy(known.fabric, refused);
  for (int a = 0; a < known.fabric.ranks; ++a)
    for (int b = a + 1; b < known.fabric.ranks; ++b)
      if (refused(a, b)) known.reasons.try_emplace({a, b}, reason);
}

void pull_pairs(KnownFabric& known, const std::string& reason, const std::function<bool(int, int)>& pulled) {
  pull_pairs(known.fabric, pulled);
  for (int a = 0; a < known.fabric.ranks; ++a)
    for (int b = a + 1; b < known.fabric.ranks; ++b)
      if (pulled(a, b)) known.reasons.try_emplace({a, b}, reason);
}

void note_failed_proofs(KnownFabric& known) { note(known, "what one stores does not arrive at the other"); }

void note_unmapped(KnownFabric& known) {
  apply_peer_policy(known.fabric, [](int, int) { return true; });
  note(known, "their memory could not be mapped");
}

std::string missing_pairs(const KnownFabric& known) {
  const NamedPairs pairs = host_pairs(known);
  return pairs.count == 0 ? "" : fmt::format("mode p2p: expected every pair of ranks to reach each other's memory; missing: {}", pairs.text);
}

void expect_mode(const KnownFabric& known, PeerMode mode) {
  if (mode == PeerMode::p2p) require(missing_pairs(known).empty(), [&] { return missing_pairs(known); }, ErrorCode::unsupported);
}

std::string choice_text(const KnownFabric& known, PeerMode mode) {
  const int ranks = known.fabric.ranks, all = ranks * (ranks - 1) / 2;
  const NamedPairs pairs = host_pairs(known), pulled = pulled_pairs(known);
  std::string text = fmt::format("{} {} on {}, mode {}", ranks, ranks == 1 ? "rank" : "ranks", known.fabric.backend == Backend::cuda ? "GPUs" : "the host", name_of(mode));
  if (all == 0) return text;
  if (known.fabric.fully_connected()) return text + ": every pair writes into each other's memory";
  if (pairs.count > 0) text += fmt::format(": {} of {} pairs meet in host memory: {}", pairs.count, all, pairs.text);
  if (pulled.count > 0) text += fmt::format("{} {} of {} pairs read each other's memory: {}", pairs.count > 0 ? ";" : ":", pulled.count, all, pulled.text);
  return text;
}

void log_choice(const KnownFabric& known, PeerMode mode) {
  if (log_enabled(LogLevel::info)) log_line(LogLevel::info, choice_text(known, mode));
}

}  // namespace collectives
