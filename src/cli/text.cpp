#include "cli/text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace cli {

using collectives::Machine;
using collectives::Node;
using collectives::NodeKind;

std::string printable(std::string_view text) {
  std::string clean(text);
  for (char& c : clean)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  return clean;
}

std::string bytes_in_words(double bytes) {
  constexpr const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  while (bytes >= 1024 && unit < 4) {
    bytes /= 1024;
    ++unit;
  }
  return fmt::format("{:.{}f} {}", bytes, bytes == std::floor(bytes) ? 0 : 1, units[unit]);
}

std::string rounded(double value) {
  const int digits = value >= 100 || value == std::floor(value) ? 0 : value >= 10 ? 1 : 2;
  return fmt::format("{:.{}f}", value, digits);
}

std::string aligned(const std::vector<std::vector<std::string>>& rows, bool last_left) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      const bool left = i == 0 || (last_left && i + 1 == widths.size());
      line += left ? fmt::format("{}{:<{}}", i == 0 ? "" : "  ", row[i], widths[i]) : fmt::format("  {:>{}}", row[i], widths[i]);
    }
    out += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return out;
}

std::string label_of(const Machine& machine, int index) {
  const Node& node = machine.nodes[static_cast<std::size_t>(index)];
  switch (node.kind) {
    case NodeKind::gpu: {
      if (node.device >= 0) return fmt::format("GPU{}", node.device);
      int unseen = 0;
      for (const int gpu : machine.gpus()) {
        if (gpu == index) break;
        if (machine.nodes[static_cast<std::size_t>(gpu)].device < 0) ++unseen;
      }
      return fmt::format("unseen{}", unseen);
    }
    case NodeKind::cpu:
      return node.numa >= 0 ? fmt::format("NUMA {}", node.numa) : "CPU";
    case NodeKind::pci_switch:
      return node.name.empty() ? "PCIe switch" : printable(node.name);
    case NodeKind::host_bridge:
      return node.name.empty() ? "PCIe root" : printable(node.name);
    case NodeKind::nvswitch:
      return node.name.empty() ? "NVSwitch" : printable(node.name);
  }
  return "node";
}

}  // namespace cli
