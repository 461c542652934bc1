#include "cli/diagnosis.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "cli/text.hpp"

namespace cli {
namespace {

using namespace collectives;

/// A link that moves less than this part of what its kind does is worth a look.
constexpr double suspicious = 0.5;

std::string gpus(DevicePair pair) { return fmt::format("GPU{}>GPU{}", pair.from, pair.to); }

class Doctor {
 public:
  explicit Doctor(const Examination& examination) : seen_(examination) {}

  Diagnosis all() {
    for (const Verdict verdict : {Verdict::hang, Verdict::wrong_data, Verdict::refused, Verdict::inconclusive}) links_with(verdict);
    all_reduces();
    slow_links();
    collapses();
    machine();
    refused_pairs();
    return std::move(diagnosis_);
  }

 private:
  void find(std::string what, std::string remedy = {}) { diagnosis_.findings.push_back({std::move(what), std::move(remedy)}); }

  /// What is worse has the smaller number, but for healthy.
  void raise(Exit exit) {
    if (diagnosis_.exit == Exit::healthy || exit < diagnosis_.exit) diagnosis_.exit = exit;
  }

  void links_with(Verdict verdict) {
    for (const LinkVerdict& link : seen_.verification.links) {
      if (link.verdict != verdict) continue;
      raise(verdict == Verdict::hang ? Exit::hang : verdict == Verdict::wrong_data ? Exit::wrong_data : Exit::inconclusive);
      find(fmt::format("{} {}: {}{}{}", gpus(link.pair), name_of(link.method), name_of(verdict), link.reason.empty() ? "" : ": ", printable(link.reason)),
           remedy_for(verdict));
    }
  }

  static std::string remedy_for(Verdict verdict) {
    if (verdict == Verdict::refused) return "update the driver; until then the two meet in host memory";
    if (verdict == Verdict::inconclusive) return "free the GPUs of other processes and try again";
    return "switch off ACS and the IOMMU's translation in firmware and kernel, or in a virtual machine ask its host to; look for NVRM and "
           "Xid lines in dmesg. Until then the two meet in host memory, as the verdict is kept";
  }

  void all_reduces() {
    const bool control_fails = std::any_of(seen_.control.begin(), seen_.control.end(), [](const AllReduceCheck& check) { return !check.right; });
    const bool control_hangs = std::any_of(seen_.control.begin(), seen_.control.end(), [](const AllReduceCheck& check) { return check.timed_out; });
    if (control_fails) {
      raise(control_hangs ? Exit::hang : Exit::inconclusive);
      find("the all-reduce through host memory fails, which needs no link between GPUs: " + failure_of(seen_.control),
           "see whether other processes fill the GPUs or the host's memory");
    }
    for (const AllReduceCheck& check : seen_.all_reduce) {
      if (check.right || control_fails) continue;
      raise(check.timed_out ? Exit::hang : check.error.empty() ? Exit::wrong_data : Exit::inconclusive);
      find(fmt::format("an all-reduce of {} fails: {}", bytes_in_words(static_cast<double>(check.bytes)), failure_of({check})),
           "COLLECTIVES_P2P=off goes through host memory");
    }
  }

  static std::string failure_of(const std::vector<AllReduceCheck>& checks) {
    for (const AllReduceCheck& check : checks) {
      if (check.right) continue;
      return check.error.empty() ? fmt::format("{} wrong elements", check.wrong_elements) : printable(check.error);
    }
    return {};
  }

  const Peer* peer(DevicePair pair) const {
    int from = -1, to = -1;
    for (const int gpu : seen_.machine.gpus()) {
      const int device = seen_.machine.nodes[static_cast<std::size_t>(gpu)].device;
      if (device == pair.from) from = gpu;
      if (device == pair.to) to = gpu;
    }
    return seen_.machine.peer(from, to);
  }

  void slow_links() {
    for (const LinkVerdict& link : seen_.verification.links) {
      const Peer* claim = peer(link.pair);
      if (link.method != Method::store || link.gb_per_s <= 0 || !claim || link.gb_per_s >= suspicious * claim->gb_per_s) continue;
      find(fmt::format("{}: stores reach {} GB/s where {} usually gives {}", gpus(link.pair), rounded(link.gb_per_s), printable(claim->path), rounded(claim->gb_per_s)),
           "look for a slot with fewer lanes, a riser, or a link trained to less (nvidia-smi -q -d PCIE under load)");
    }
  }

  void collapses() {
    for (const FlowVerdict& flow : seen_.verification.flows)
      if (flow.collapsed)
        find(fmt::format("{} and {} at once, {}s: {} GB/s together where their links allow {}", gpus(flow.first), gpus(flow.second), name_of(flow.method),
                         rounded(flow.gb_per_s), rounded(flow.predicted)),
             "avoid the two pairs in one group, or move a card to another root");
  }

  void machine() {
    const Machine& machine = seen_.machine;
    for (const int gpu : machine.gpus()) {
      const Node& node = machine.nodes[static_cast<std::size_t>(gpu)];
      if (node.device < 0) find(fmt::format("{} ({}) is there, but CUDA does not see it", printable(node.name), printable(node.pci)), "name it in CUDA_VISIBLE_DEVICES, or pass it into the container");
      if (node.mig) find(fmt::format("{} is partitioned by MIG and has no peers", label_of(machine, gpu)), "nvidia-smi -mig 0, as root");
      if (node.bar1_bytes > 0 && node.bar1_bytes < node.memory_bytes / 2 && pcie_peers(gpu))
        find(fmt::format("{} shows its peers a window of {} only", label_of(machine, gpu), bytes_in_words(static_cast<double>(node.bar1_bytes))),
             "switch on Resizable BAR and Above 4G Decoding in the firmware");
    }
    for (std::size_t i = 0; i < machine.nodes.size(); ++i)
      if (machine.nodes[i].acs_redirect)
        find(fmt::format("{} {} sends what its devices exchange up to the root (ACS)", label_of(machine, static_cast<int>(i)), printable(machine.nodes[i].pci)),
             "switch ACS off in the firmware, or with setpci as root");
    if (machine.iommu == "translated" && machine.gpus().size() > 1) find("the IOMMU translates what devices exchange", "boot with iommu=pt");
  }

  bool pcie_peers(int gpu) const {
    return std::any_of(seen_.machine.peers.begin(), seen_.machine.peers.end(),
                       [gpu](const Peer& peer) { return peer.to == gpu && peer.access && !peer.path.starts_with("NV"); });
  }

  /// Pairs that the driver refuses, those of one reason together.
  void refused_pairs() {
    std::map<Finding, std::string, decltype([](const Finding& a, const Finding& b) { return a.what < b.what; })> pairs;
    for (const Peer& peer : seen_.machine.peers) {
      if (peer.access) continue;
      std::string& listed = pairs[{peer.reason, peer.remedy}];
      listed += fmt::format("{}{}>{}", listed.empty() ? "" : ", ", label_of(seen_.machine, peer.from), label_of(seen_.machine, peer.to));
    }
    for (const auto& [why, listed] : pairs) find(fmt::format("no peer access for {}: {}", listed, printable(why.what)), printable(why.remedy));
  }

  const Examination& seen_;
  Diagnosis diagnosis_;
};

}  // namespace

Diagnosis diagnose(const Examination& examination) { return Doctor(examination).all(); }

}  // namespace cli
