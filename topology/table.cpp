#include <fmt/format.h>
#include <collectives/topology.hpp>

#include <algorithm>
#include <map>
#include <set>

#include "topology/priors.hpp"

namespace collectives {
namespace {

constexpr std::size_t most_pairs_listed = 6;

/// Names come from files and drivers: nothing in them may steer the terminal.
std::string printable(std::string_view text) {
  std::string clean(text);
  for (char& c : clean)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  return clean;
}

std::string_view words_for(std::string_view path) {
  static const std::map<std::string_view, std::string_view> words = {{"PIX", "at most one PCIe switch"},
                                                                     {"PXB", "several PCIe switches, no CPU"},
                                                                     {"PHB", "through a CPU's PCIe host bridge"},
                                                                     {"NODE", "through host bridges of one NUMA node"},
                                                                     {"SYS", "across NUMA nodes"}};
  if (nvlinks_of(path) > 0) return "that many NVLinks";
  const auto found = words.find(path);
  return found == words.end() ? "a path without a known name" : found->second;
}

std::string rounded(double gb_per_s) { return fmt::format("{:.{}f}", gb_per_s, gb_per_s < 100 ? 1 : 0); }

/// The matrix and what its legend must explain.
class Table {
 public:
  explicit Table(const Machine& machine) : machine_(machine), gpus_(machine.gpus()) {
    int unseen = 0;
    for (const int gpu : gpus_) {
      const int device = node(gpu).device;
      names_.push_back(device >= 0 ? fmt::format("GPU{}", device) : fmt::format("unseen{}", unseen++));
    }
  }

  std::string print() {
    std::vector<std::vector<std::string>> rows(1, {""});
    for (const auto& name : names_) rows[0].push_back(name);
    for (std::size_t row = 0; row < gpus_.size(); ++row) {
      rows.push_back({names_[row]});
      for (std::size_t column = 0; column < gpus_.size(); ++column) rows.back().push_back(row == column ? "X" : cell(row, column));
    }
    return aligned(rows) + legend();
  }

 private:
  const Node& node(int index) const { return machine_.nodes[static_cast<std::size_t>(index)]; }

  std::string cell(std::size_t row, std::size_t column) {
    const Peer* peer = machine_.peer(gpus_[row], gpus_[column]);
    if (!peer) {
      reasons_["not known"].push_back(names_[row] + ">" + names_[column]);
      return "?";
    }
    const std::string path = peer->path.empty() ? "?" : printable(peer->path);
    if (!peer->path.empty()) paths_.insert(path);
    if (!peer->access) {
      reasons_[refusal(*peer)].push_back(names_[row] + ">" + names_[column]);
      return path + " --";
    }
    evidence_.insert(peer->evidence);
    return fmt::format("{} {}{}", path, peer->gb_per_s > 0 ? rounded(peer->gb_per_s) : "?", mark(peer->evidence));
  }

  static std::string refusal(const Peer& peer) {
    std::string words = "no peer access";
    if (!peer.reason.empty()) words += ": " + printable(peer.reason);
    if (!peer.remedy.empty()) words += "; what may help: " + printable(peer.remedy);
    return words;
  }

  static char mark(Evidence evidence) { return "cmv"[std::min<std::size_t>(static_cast<std::size_t>(evidence), 2)]; }

  static std::string aligned(const std::vector<std::vector<std::string>>& rows) {
    std::vector<std::size_t> widths(rows[0].size(), 0);
    for (const auto& row : rows)
      for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    std::string out;
    for (const auto& row : rows) {
      std::string line = fmt::format("{:<{}}", row[0], widths[0]);
      for (std::size_t i = 1; i < row.size(); ++i) line += fmt::format("  {:>{}}", row[i], widths[i]);
      out += line + "\n";
    }
    return out;
  }

  std::string legend() const {
    std::string out = "\n";
    for (std::size_t i = 0; i < gpus_.size(); ++i) {
      const Node& gpu = node(gpus_[i]);
      out += fmt::format("{} = {}", names_[i], gpu.name.empty() ? "unnamed GPU" : printable(gpu.name));
      if (!gpu.pci.empty()) out += ", " + printable(gpu.pci);
      if (gpu.numa >= 0) out += fmt::format(", NUMA {}", gpu.numa);
      if (gpu.device < 0) out += ", CUDA cannot see it";
      out += "\n";
    }
    if (!evidence_.empty()) out += "GB/s of one flow, row to column;";
    const char* separator = " ";
    for (const Evidence evidence : evidence_) {
      constexpr const char* words[] = {"c: claimed by the driver or a table", "m: measured",
                                       "v: verified by checking data where it arrived"};
      out += separator + std::string(words[std::min<std::size_t>(static_cast<std::size_t>(evidence), 2)]);
      separator = ", ";
    }
    if (!evidence_.empty()) out += "\n";
    for (const auto& path : paths_) out += fmt::format("{}: {}\n", path, words_for(path));
    for (const auto& [reason, pairs] : reasons_) out += fmt::format("{} ({})\n", reason, listed(pairs));
    return out;
  }

  static std::string listed(const std::vector<std::string>& pairs) {
    const auto shown = std::min(pairs.size(), most_pairs_listed);
    std::string out = fmt::format("{}", fmt::join(pairs.begin(), pairs.begin() + static_cast<std::ptrdiff_t>(shown), ", "));
    if (pairs.size() > shown) out += fmt::format(" and {} more", pairs.size() - shown);
    return out;
  }

  const Machine& machine_;
  std::vector<int> gpus_;
  std::vector<std::string> names_;
  std::set<std::string> paths_;
  std::set<Evidence> evidence_;
  std::map<std::string, std::vector<std::string>> reasons_;
};

}  // namespace

std::string peer_table(const Machine& machine) {
  if (!machine.gpus().empty()) return Table(machine).print();
  const auto cpus = std::count_if(machine.nodes.begin(), machine.nodes.end(), [](const Node& node) { return node.kind == NodeKind::cpu; });
  return fmt::format("No GPU found; {} NUMA node{}. Ranks run on the CPUs.\n", cpus, cpus == 1 ? "" : "s");
}

}  // namespace collectives
