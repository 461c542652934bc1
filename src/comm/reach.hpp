#pragma once

#include <collectives/topology.hpp>
#include <collectives/types.hpp>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "topology/fabric.hpp"

namespace collectives {

/// By pair of ranks, the smaller first: why they do not reach each other's memory.
using PairReasons = std::map<std::pair<int, int>, std::string>;

/// The ranks' machine, and why pairs in it meet in host memory.
struct KnownFabric {
  Fabric fabric;
  PairReasons reasons;
  std::string identity{};  ///< of the ranks, for what is kept of them; empty where nothing can be
};

/// What the machine says of the pairs of these ranks' GPUs that lack access one way or the other. `devices` are CUDA ordinals.
PairReasons reasons_of(const Machine& machine, const std::vector<int>& devices);

/// Leads the pairs that `refused(a, b)` names, for a < b, through host memory. A pair that had no access keeps its reason.
void refuse_pairs(KnownFabric& known, const std::string& reason, const std::function<bool(int, int)>& refused);

/// Lets the pairs that `pulled(a, b)` names, for a < b, read each other's memory where they wrote.
void pull_pairs(KnownFabric& known, const std::string& reason, const std::function<bool(int, int)>& pulled);

/// Pairs that a proof has taken out of the fabric since.
void note_failed_proofs(KnownFabric& known);
/// All pairs meet in host memory, because their devices' memory could not be mapped.
void note_unmapped(KnownFabric& known);

/// What mode p2p says of the pairs that meet in host memory; empty if none do.
std::string missing_pairs(const KnownFabric& known);
/// Throws Error(unsupported) with that text in mode p2p.
void expect_mode(const KnownFabric& known, PeerMode mode);

/// What was chosen and why, in one line.
std::string choice_text(const KnownFabric& known, PeerMode mode);
/// That line, at info.
void log_choice(const KnownFabric& known, PeerMode mode);

}  // namespace collectives
