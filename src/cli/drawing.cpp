#include "cli/drawing.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "cli/text.hpp"

namespace cli {
namespace {

using collectives::Link;
using collectives::LinkKind;
using collectives::Machine;
using collectives::NodeKind;
using collectives::Peer;

constexpr const char* colours[] = {"#1b6ca8", "#c8553d", "#3b8132", "#8d5a97", "#b8860b", "#00808a", "#a0305a", "#555555"};

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : printable(text)) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

std::string node_text(const Machine& machine, int index) {
  constexpr const char* shapes[] = {"box", "house", "diamond", "trapezium", "hexagon"};
  const auto& node = machine.nodes[static_cast<std::size_t>(index)];
  const std::string name = label_of(machine, index), chip = printable(node.name);
  const bool gpu = node.kind == NodeKind::gpu;
  // A backslash-n of Graphviz, which `quoted` would take for the name's own.
  std::string label = quoted(name);
  if (gpu && !chip.empty()) label = quoted(name).substr(0, name.size() + 1) + "\\n" + quoted(chip).substr(1);
  return fmt::format("  n{} [label={}, shape={}{}];\n", index, label, shapes[static_cast<std::size_t>(node.kind) % std::size(shapes)],
                     gpu ? ", style=filled, fillcolor=\"#e8f0e0\"" : "");
}

/// How many links each node is below the CPUs. All GPUs are drawn side by side, and the switches of their own links below them.
std::vector<int> levels_of(const Machine& machine) {
  const int gpus = static_cast<int>(machine.nodes.size()), lowest = gpus + 1;
  std::vector<int> levels;
  for (const auto& node : machine.nodes) levels.push_back(node.kind == NodeKind::cpu ? 0 : node.kind == NodeKind::nvswitch ? lowest : gpus);
  const auto is_between = [&](int node) {
    const NodeKind kind = machine.nodes[static_cast<std::size_t>(node)].kind;
    return kind == NodeKind::pci_switch || kind == NodeKind::host_bridge;
  };
  for (bool moved = true; moved;) {
    moved = false;
    for (const Link& link : machine.links) {
      int& to = levels[static_cast<std::size_t>(link.to)];
      const int below = levels[static_cast<std::size_t>(link.from)] + 1;
      if (!is_between(link.to) || below >= to) continue;
      to = below;
      moved = true;
    }
  }
  return levels;
}

constexpr const char* line_styles[] = {"color=\"#3b8132\", penwidth=3", "color=\"#444444\"", "color=\"#1b6ca8\", penwidth=2",
                                       "color=\"#888888\""};

/// Two GPUs are joined below their row, where the link's rate stands: lines along the row would cross boxes.
std::string joint_text(const Link& link, std::size_t index, bool both) {
  const char* const style = line_styles[static_cast<std::size_t>(link.kind) % std::size(line_styles)];
  return fmt::format("  l{} [label=\"{}\", shape=plaintext, fontsize=9, width=0, height=0, margin=0.02];\n", index,
                     link.gb_per_s > 0 ? rounded(link.gb_per_s) : "") +
         fmt::format("  n{} -> l{} [dir=none, {}];\n", link.from, index, style) +
         fmt::format("  n{} -> l{} [dir={}, {}];\n", link.to, index, both ? "none" : "back", style);
}

/// From its upper end to its lower: Graphviz ranks nodes by that. Between equals it is drawn where the others leave room.
std::string link_text(const Link& link, bool both, const std::vector<int>& levels) {
  const int from = levels[static_cast<std::size_t>(link.from)], to = levels[static_cast<std::size_t>(link.to)];
  const bool upward = from > to;
  return fmt::format("  n{} -> n{} [dir={}, {}{}{}];\n", upward ? link.to : link.from, upward ? link.from : link.to,
                     both     ? "none"
                     : upward ? "back"
                              : "forward",
                     line_styles[static_cast<std::size_t>(link.kind) % std::size(line_styles)], from == to ? ", constraint=false" : "",
                     link.gb_per_s > 0 ? fmt::format(", label=\"{}\"", rounded(link.gb_per_s)) : "");
}

/// Nodes of a kind in one row, in their own order.
std::string row_text(const Machine& machine, NodeKind kind) {
  std::vector<int> row;
  for (std::size_t index = 0; index < machine.nodes.size(); ++index)
    if (machine.nodes[index].kind == kind) row.push_back(static_cast<int>(index));
  if (row.size() < 2) return "";
  std::string out = "  { rank=same;\n";
  for (std::size_t i = 1; i < row.size(); ++i) out += fmt::format("    n{} -> n{} [style=invis];\n", row[i - 1], row[i]);
  return out + "  }\n";
}

std::string refusals_text(const Machine& machine) {
  std::string out;
  for (const Peer& peer : machine.peers) {
    if (peer.access || peer.from > peer.to) continue;
    out += fmt::format("  n{} -> n{} [dir=none, style=dotted, color=\"#c0c0c0\", constraint=false, tooltip={}];\n", peer.from, peer.to,
                       quoted(peer.reason.empty() ? "no peer access" : peer.reason));
  }
  return out;
}

std::string arrows_text(const Machine& machine, const std::vector<Arrow>& arrows) {
  std::string out;
  const auto node_of = [&](int device) {
    for (const int gpu : machine.gpus())
      if (machine.nodes[static_cast<std::size_t>(gpu)].device == device) return gpu;
    return -1;
  };
  for (const Arrow& arrow : arrows)
    out += fmt::format("  n{} -> n{} [color=\"{}\", penwidth={:.2f}, constraint=false, tooltip=\"channel {}: {:.3f} of the message\"];\n",
                       node_of(arrow.from), node_of(arrow.to), colours[static_cast<std::size_t>(arrow.channel) % std::size(colours)],
                       0.8 + 2.5 * std::min(arrow.share, 1.0), arrow.channel, arrow.share);
  return out;
}

}  // namespace

std::string to_dot(const Machine& machine, const std::vector<Arrow>& arrows) {
  std::string out = fmt::format(
      "digraph machine {{\n  label={};\n  labelloc=t;\n  fontname=\"sans-serif\";\n  node [fontname=\"sans-serif\", fontsize=11];\n"
      "  edge [fontname=\"sans-serif\", fontsize=9];\n",
      quoted(machine.name.empty() ? "machine" : machine.name));
  for (std::size_t index = 0; index < machine.nodes.size(); ++index) out += node_text(machine, static_cast<int>(index));
  for (const NodeKind kind : {NodeKind::gpu, NodeKind::cpu}) out += row_text(machine, kind);
  const auto levels = levels_of(machine);
  // A pair of opposite links of one rate is one line.
  std::set<std::tuple<int, int, LinkKind, double>> all;
  for (const Link& link : machine.links) all.insert({link.from, link.to, link.kind, link.gb_per_s});
  const auto is_gpu = [&](int node) { return machine.nodes[static_cast<std::size_t>(node)].kind == NodeKind::gpu; };
  for (std::size_t index = 0; index < machine.links.size(); ++index) {
    const Link& link = machine.links[index];
    const bool both = all.count({link.to, link.from, link.kind, link.gb_per_s}) > 0;
    if (both && link.from > link.to) continue;
    out += is_gpu(link.from) && is_gpu(link.to) ? joint_text(link, index, both) : link_text(link, both, levels);
  }
  out += arrows.empty() ? refusals_text(machine) : arrows_text(machine, arrows);
  return out + "}\n";
}

}  // namespace cli
