#include "cli/tree.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <tuple>
#include <vector>

#include "cli/text.hpp"

namespace cli {
namespace {

using collectives::Link;
using collectives::LinkKind;
using collectives::Machine;
using collectives::Node;
using collectives::NodeKind;

constexpr int none = -1;

bool hangs(LinkKind kind) { return kind == LinkKind::pcie || kind == LinkKind::memory; }

/// Who hangs below whom: every node below the root nearest to it, roots being CPUs, then whatever no CPU leads to.
class Forest {
 public:
  explicit Forest(const Machine& machine)
      : machine_(machine), above_(machine.nodes.size(), none), below_(machine.nodes.size()), seen_(machine.nodes.size()) {
    neighbours_.resize(machine.nodes.size());
    for (const Link& link : machine.links)
      if (hangs(link.kind)) neighbours_[at(link.from)].push_back(link.to);
    for (const NodeKind kind : {NodeKind::cpu, NodeKind::host_bridge, NodeKind::pci_switch, NodeKind::gpu}) grow(kind);
  }

  const std::vector<int>& roots() const { return roots_; }
  const std::vector<int>& below(int node) const { return below_[at(node)]; }
  int above(int node) const { return above_[at(node)]; }

 private:
  static std::size_t at(int index) { return static_cast<std::size_t>(index); }

  void grow(NodeKind kind) {
    std::vector<int> reached;
    for (std::size_t i = 0; i < machine_.nodes.size(); ++i) {
      if (machine_.nodes[i].kind != kind || seen_[i]) continue;
      seen_[i] = true;
      reached.push_back(static_cast<int>(i));
      roots_.push_back(static_cast<int>(i));
      // CPUs grow together, so that each keeps what is nearest to it; elsewhere the first root takes all it leads to.
      if (kind != NodeKind::cpu) spread(reached);
    }
    spread(reached);
  }

  void spread(std::vector<int>& reached) {
    for (std::size_t next = 0; next < reached.size(); ++next) {
      const int node = reached[next];
      for (const int other : neighbours_[at(node)]) {
        if (seen_[at(other)]) continue;
        seen_[at(other)] = true;
        above_[at(other)] = node;
        below_[at(node)].push_back(other);
        reached.push_back(other);
      }
    }
    reached.clear();
  }

  const Machine& machine_;
  std::vector<std::vector<int>> neighbours_;
  std::vector<int> roots_, above_;
  std::vector<std::vector<int>> below_;
  std::vector<bool> seen_;
};

/// Links by what they join.
class Rates {
 public:
  explicit Rates(const Machine& machine) {
    for (const Link& link : machine.links) rates_.emplace(std::tuple(link.kind, link.from, link.to), link.gb_per_s);
  }
  /// Nothing if there is no such link, 0 if its rate is not known.
  std::optional<double> find(LinkKind kind, int from, int to) const {
    const auto found = rates_.find({kind, from, to});
    return found == rates_.end() ? std::nullopt : std::optional(found->second);
  }
  double hanging(int from, int to) const {
    return std::max(find(LinkKind::pcie, from, to).value_or(0), find(LinkKind::memory, from, to).value_or(0));
  }

 private:
  std::map<std::tuple<LinkKind, int, int>, double> rates_;
};

std::string rate_in_words(double up, double down) {
  if (up <= 0 && down <= 0) return "";
  if (up == down) return fmt::format("{} GB/s", rounded(up));
  return fmt::format("{} GB/s up, {} down", rounded(up), rounded(down));
}

std::string details_of(const Machine& machine, const Rates& rates, int index, int above) {
  const Node& node = machine.nodes[static_cast<std::size_t>(index)];
  std::string out;
  const auto add = [&](const std::string& words) {
    if (!words.empty()) out += ", " + words;
  };
  if (node.kind == NodeKind::gpu) add(printable(node.name));
  add(printable(node.pci));
  if (node.pcie_generation > 0 && node.pcie_width > 0) add(fmt::format("Gen{} x{}", node.pcie_generation, node.pcie_width));
  if (above != none) add(rate_in_words(rates.hanging(index, above), rates.hanging(above, index)));
  if (node.memory_bytes > 0) add(bytes_in_words(static_cast<double>(node.memory_bytes)));
  if (node.bar1_bytes > 0) add("BAR1 " + bytes_in_words(static_cast<double>(node.bar1_bytes)));
  if (node.mig) add("MIG");
  if (node.acs_redirect) add("ACS sends peers' traffic up to the root");
  return out;
}

std::string forest_text(const Machine& machine, const Rates& rates) {
  const Forest forest(machine);
  std::string out;
  std::vector<std::pair<int, int>> open;  // a node and its depth, the next one last
  const auto push = [&](const std::vector<int>& nodes, int depth) {
    for (auto node = nodes.rbegin(); node != nodes.rend(); ++node) open.push_back({*node, depth});
  };
  push(forest.roots(), 0);
  while (!open.empty()) {
    const auto [node, depth] = open.back();
    open.pop_back();
    out += std::string(static_cast<std::size_t>(depth) * 2, ' ') + label_of(machine, node) +
           details_of(machine, rates, node, forest.above(node)) + "\n";
    push(forest.below(node), depth + 1);
  }
  return out;
}

/// A line for each node that has links of this kind to later ones; both directions in one.
std::string links_text(const Machine& machine, const Rates& rates, LinkKind kind) {
  std::map<int, std::string> lines;
  for (const Link& link : machine.links) {
    if (link.kind != kind) continue;
    const auto back = rates.find(kind, link.to, link.from);
    if (back && link.to < link.from) continue;
    std::string& line = lines[link.from];
    const std::string rate = rate_in_words(link.gb_per_s, back.value_or(link.gb_per_s));
    line += fmt::format("{}{}{}{}", line.empty() ? "" : ", ", label_of(machine, link.to), rate.empty() ? "" : " " + rate,
                        back ? "" : " (one way)");
  }
  std::string out;
  for (const auto& [from, line] : lines) out += fmt::format("{} - {}\n", label_of(machine, from), line);
  return out;
}

}  // namespace

std::string tree_text(const Machine& machine) {
  const Rates rates(machine);
  std::string out = forest_text(machine, rates);
  const std::string sockets = links_text(machine, rates, LinkKind::socket), nvlinks = links_text(machine, rates, LinkKind::nvlink);
  if (!sockets.empty()) out += "\nBetween NUMA nodes, each way:\n" + sockets;
  if (!nvlinks.empty()) out += "\nNVLink, all links of a pair together, each way:\n" + nvlinks;
  return out;
}

}  // namespace cli
