// From a matrix of pairwise paths to the tree of PCIe that would give it. Devices that are at most one switch apart (PIX) share
// a switch, groups that are several apart (PXB) a switch above those, groups that meet in a root (PHB) a host bridge, and host
// bridges of one NUMA node (NODE) their CPU. Network cards take part, though they get no nodes: two GPUs whose NVLinks hide how
// they are joined over PCIe share a switch if both share it with the same card.
#include "topology/smi_tree.hpp"

#include <fmt/format.h>

#include <map>
#include <numeric>
#include <set>

#include "topology/assemble.hpp"
#include "topology/priors.hpp"

namespace collectives {
namespace {

/// Groups of columns that are joined by cells of at most a distance.
class Groups {
 public:
  Groups(const SmiMatrix& matrix, SmiDistance most) : parent_(matrix.columns.size()) {
    std::iota(parent_.begin(), parent_.end(), std::size_t{0});
    for (std::size_t row = 0; row < matrix.rows.size(); ++row)
      for (std::size_t column = 0; column < matrix.columns.size(); ++column) {
        const SmiDistance distance = distance_of(matrix.rows[row][column].text);
        if (distance != SmiDistance::none && distance <= most) parent_[root(row)] = root(column);
      }
  }

  std::size_t root(std::size_t column) const {
    while (parent_[column] != column) column = parent_[column];
    return column;
  }

 private:
  std::vector<std::size_t> parent_;
};

class MatrixTree {
 public:
  MatrixTree(Machine& machine, const SmiMatrix& matrix)
      : machine_(machine),
        matrix_(matrix),
        below_switch_(matrix, SmiDistance::one_switch),
        below_switches_(matrix, SmiDistance::switches),
        below_root_(matrix, SmiDistance::root),
        in_numa_(matrix, SmiDistance::numa) {}

  void build() {
    name_numa_nodes();
    for (std::size_t gpu = 0; gpu < matrix_.gpus.size(); ++gpu) hang(gpu);
    join_sockets(machine_);
  }

 private:
  std::size_t gpus() const { return matrix_.gpus.size(); }
  int& numa(std::size_t gpu) { return machine_.nodes[gpu].numa; }

  /// The column's own NUMA node first; else GPUs with the same CPUs, or else those no further than NODE apart, share one.
  void name_numa_nodes() {
    std::set<int> taken(matrix_.numa.begin(), matrix_.numa.end());
    std::map<std::string, int> counted;
    bool apart = false;
    for (const auto& row : matrix_.rows)
      for (const Word& cell : row) apart = apart || distance_of(cell.text) == SmiDistance::system;
    for (std::size_t gpu = 0; gpu < gpus(); ++gpu) {
      numa(gpu) = matrix_.numa[gpu];
      if (numa(gpu) >= 0) continue;
      const auto group = !matrix_.cpus[gpu].empty() ? std::string(matrix_.cpus[gpu])
                         : apart                    ? fmt::format("group {}", in_numa_.root(gpu))
                                                    : "";
      const auto [place, added] = counted.emplace(group, 0);
      while (added && !taken.insert(place->second).second) ++place->second;
      numa(gpu) = place->second;
    }
  }

  /// Does a group of GPUs hold another that `finer` tells from this one?
  bool divides(const Groups& coarse, const Groups* finer, std::size_t gpu) const {
    for (std::size_t other = 0; other < gpus(); ++other)
      if (other != gpu && coarse.root(other) == coarse.root(gpu) && (!finer || finer->root(other) != finer->root(gpu))) return true;
    return false;
  }

  /// Links a GPU to the lowest of what it shares, and what is new of that to the next above it.
  void hang(std::size_t gpu) {
    int below = static_cast<int>(gpu);
    bool fresh = true;
    const auto climb = [&](std::map<std::size_t, int>& nodes, std::size_t group, NodeKind kind, std::string name, LinkKind link) {
      if (!fresh) return;
      const auto [place, added] = nodes.emplace(group, 0);
      if (added) {
        Node node;
        node.kind = kind;
        node.name = std::move(name);
        node.numa = numa(gpu);
        place->second = add_node(machine_, std::move(node));
      }
      join(machine_, below, place->second, link, 0);
      below = place->second;
      fresh = added;
    };
    if (divides(below_switch_, nullptr, gpu))
      climb(switches_, below_switch_.root(gpu), NodeKind::pci_switch, "PCIe switch", LinkKind::pcie);
    if (divides(below_switches_, &below_switch_, gpu))
      climb(upper_switches_, below_switches_.root(gpu), NodeKind::pci_switch, "PCIe switch", LinkKind::pcie);
    climb(roots_, below_root_.root(gpu), NodeKind::host_bridge, "PCIe root", LinkKind::pcie);
    climb(cpus_, static_cast<std::size_t>(numa(gpu)), NodeKind::cpu, fmt::format("NUMA {}", numa(gpu)), LinkKind::memory);
  }

  Machine& machine_;
  const SmiMatrix& matrix_;
  Groups below_switch_, below_switches_, below_root_, in_numa_;
  std::map<std::size_t, int> switches_, upper_switches_, roots_, cpus_;
};

/// A row that names more NVLinks than a GPU has shares them out by a switch. No GPU has more than 18.
int most_nvlinks(const Node& gpu) {
  const int known = nvlinks_per_gpu(gpu.compute_capability);
  return known > 0 ? known : 18;
}

void add_nvlinks(Machine& machine, const SmiMatrix& matrix) {
  const std::size_t gpus = matrix.gpus.size();
  const auto links = [&](std::size_t a, std::size_t b) { return nvlinks_of(matrix.rows[a][b].text); };
  std::vector<int> most(gpus, 0);
  std::vector<bool> switched(gpus, false);
  for (std::size_t a = 0; a < gpus; ++a) {
    int total = 0;
    for (std::size_t b = 0; b < gpus; ++b) {
      total += links(a, b);
      most[a] = std::max(most[a], links(a, b));
    }
    switched[a] = total > most_nvlinks(machine.nodes[a]);
  }
  const auto line = [&](std::size_t a, std::size_t b) {
    return nvlink_line_gb_per_s(std::min(machine.nodes[a].compute_capability, machine.nodes[b].compute_capability));
  };
  for (std::size_t a = 0; a < gpus; ++a) {
    if (switched[a]) join(machine, static_cast<int>(a), nvswitch_of(machine), LinkKind::nvlink, most[a] * line(a, a));
    for (std::size_t b = a + 1; b < gpus; ++b)
      if (links(a, b) > 0 && !(switched[a] && switched[b]))
        join(machine, static_cast<int>(a), static_cast<int>(b), LinkKind::nvlink, links(a, b) * line(a, b));
  }
}

}  // namespace

void add_tree(Machine& machine, const SmiMatrix& matrix) {
  MatrixTree(machine, matrix).build();
  add_nvlinks(machine, matrix);
}

void add_plain_tree(Machine& machine) {
  const int gpus = static_cast<int>(machine.nodes.size());
  Node root, cpu;
  root.kind = NodeKind::host_bridge;
  root.name = "PCIe root";
  cpu.kind = NodeKind::cpu;
  cpu.name = "CPU";
  const int above = add_node(machine, root);
  for (int gpu = 0; gpu < gpus; ++gpu) join(machine, gpu, above, LinkKind::pcie, 0);
  join(machine, above, add_node(machine, cpu), LinkKind::memory, 0);
}

}  // namespace collectives
