// NCCL's XML: <system> holds a <cpu> for every NUMA node, that a <pci> for every device below one of its root ports, and those
// nest where they are switches. A <gpu> within says which are ranks, its <nvlink> elements where links lead. A CPU's roots are
// not told apart, so it gets one host bridge.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "topology/assemble.hpp"
#include "topology/graph.hpp"
#include "topology/importers.hpp"
#include "topology/priors.hpp"
#include "topology/xml_text.hpp"

namespace collectives {
namespace {

constexpr int class_display = 0x03, class_switch = 0x0604, class_nvswitch = 0x0680;

class NcclReader {
 public:
  explicit NcclReader(const SourceText& source) : source_(source), xml_(source) {}

  Machine read() {
    const auto root = xml_.root();
    if (std::string_view(root.name()) != "system")
      xml_.fail(root, fmt::format("<system>, found <{}>{}", shown(root.name()),
                                  std::string_view(root.name()) == "graphs" ? ", which tells of rings and not of a machine" : ""));
    for (const auto cpu : root.children("cpu")) read_cpu(cpu);
    if (gpus_.empty()) xml_.fail(root, "a GPU within <system>");
    number_gpus();
    for (const Gpu& gpu : gpus_) read_nvlinks(gpu);
    complete_tree(machine_, nvlinks_, source_);
    return std::move(machine_);
  }

 private:
  struct Gpu {
    pugi::xml_node pci, gpu;
    int node;
  };

  void read_cpu(pugi::xml_node element) {
    Node cpu, root;
    cpu.kind = NodeKind::cpu;
    cpu.numa = std::max(-1, xml_.number(element, "numaid", -1));
    cpu.name = cpu.numa >= 0 ? fmt::format("NUMA {}", cpu.numa) : "CPU";
    root.kind = NodeKind::host_bridge;
    root.name = "PCIe root";
    root.numa = numa_ = cpu.numa;
    cpu_node_ = add(std::move(cpu), element);
    const int bridge = add(std::move(root), element);
    join(machine_, bridge, cpu_node_, LinkKind::memory, 0);
    for (const auto pci : element.children("pci")) read_pci(pci, bridge);
  }

  int add(Node node, pugi::xml_node element) {
    if (machine_.nodes.size() == max_nodes) xml_.fail(element, fmt::format("at most {} nodes", max_nodes));
    return add_node(machine_, std::move(node));
  }

  /// Not recursion without end: the text's depth is bounded.
  void read_pci(pugi::xml_node element, int above) {
    Node node;
    node.pci = xml_.pci(element, "busid");
    if (node.pci.empty()) xml_.fail(element, fmt::format("a PCI address for busid, found '{}'", shown(element.attribute("busid").value())));
    node.numa = numa_;
    const int kind = xml_.number(element, "class", 0) >> 8;
    const unsigned generation = pcie_generation(element.attribute("link_speed").value());
    const int width = std::clamp(xml_.number(element, "link_width", 0), 0, 32);
    const double rate = slot_gb_per_s(generation, static_cast<unsigned>(width));
    node.pcie_generation = static_cast<int>(generation);
    node.pcie_width = width;
    if (const auto gpu = element.child("gpu"); gpu || kind >> 8 == class_display) {
      if (gpus_.size() == max_described_gpus) xml_.fail(element, fmt::format("at most {} GPUs", max_described_gpus));
      describe(node, gpu);
      gpus_.push_back({element, gpu, add(std::move(node), element)});
      join(machine_, gpus_.back().node, above, LinkKind::pcie, rate);
    } else if (kind == class_switch && holds_gpu(element)) {
      node.kind = NodeKind::pci_switch;
      node.name = "PCIe switch";
      const int bridge = add(std::move(node), element);
      join(machine_, bridge, above, LinkKind::pcie, rate);
      for (const auto below : element.children("pci")) read_pci(below, bridge);
    }
  }

  /// RCCL's files give the number of an AMD GPU's units as `sm`.
  void describe(Node& node, pugi::xml_node gpu) const {
    node.name = "GPU";
    const bool is_amd = !gpu.attribute("gcn").empty();
    if (!is_amd) node.compute_capability = std::max(0, xml_.number(gpu, "sm", 0));
  }

  static bool holds_gpu(pugi::xml_node element) {
    return static_cast<bool>(element.find_node([](pugi::xml_node node) {
      return std::string_view(node.name()) == "gpu" || std::string_view(node.attribute("class").value()).starts_with("0x03");
    }));
  }

  /// By `dev` where the file says it of all and differently, else in the order of their addresses, as CUDA counts equal GPUs.
  void number_gpus() {
    std::set<int> named;
    for (const Gpu& gpu : gpus_) named.insert(std::max(-1, xml_.number(gpu.gpu, "dev", -1)));
    const bool usable = named.size() == gpus_.size() && !named.contains(-1);
    std::vector<const Gpu*> order;
    for (const Gpu& gpu : gpus_) order.push_back(&gpu);
    std::stable_sort(order.begin(), order.end(), [this](const Gpu* a, const Gpu* b) { return address(*a) < address(*b); });
    for (std::size_t i = 0; i < order.size(); ++i)
      node_of(*order[i]).device = usable ? xml_.number(order[i]->gpu, "dev", -1) : static_cast<int>(i);
  }

  Node& node_of(const Gpu& gpu) { return machine_.nodes[static_cast<std::size_t>(gpu.node)]; }
  std::pair<std::size_t, std::string> address(const Gpu& gpu) {
    // Longer domains are greater.
    return {node_of(gpu).pci.size(), node_of(gpu).pci};
  }

  void read_nvlinks(const Gpu& gpu) {
    for (const auto element : gpu.gpu.children()) {
      const std::string_view name = element.name();
      if (name != "nvlink" && name != "xgmi") continue;
      const int count = xml_.number(element, "count", 0);
      if (count < 1 || count > 64) xml_.fail(element, "a count from 1 to 64");
      const double rate = count * nvlink_line_gb_per_s(node_of(gpu).compute_capability);
      if (xml_.number(element, "tclass", 0) >> 8 == class_nvswitch) {
        const int hub = nvswitch_of(machine_);
        nvlinks_[{gpu.node, hub}] += static_cast<unsigned>(count);
        join(machine_, gpu.node, hub, LinkKind::nvlink, rate);
        continue;
      }
      // A link to itself, as one cloud writes it, or to a GPU that is not here leads nowhere that a plan could go.
      const int far = gpu_at(xml_.pci(element, "target"));
      if (far < 0 || far == gpu.node) continue;
      nvlinks_[{gpu.node, far}] += static_cast<unsigned>(count);
      // The other end says the same of it.
      if (!nvlinks_.contains({far, gpu.node})) join(machine_, gpu.node, far, LinkKind::nvlink, rate);
    }
  }

  int gpu_at(const std::string& pci) const {
    for (const Gpu& gpu : gpus_)
      if (!pci.empty() && machine_.nodes[static_cast<std::size_t>(gpu.node)].pci == pci) return gpu.node;
    return -1;
  }

  const SourceText& source_;
  XmlText xml_;
  Machine machine_;
  std::vector<Gpu> gpus_;
  NvlinkCounts nvlinks_;
  int cpu_node_ = -1;
  int numa_ = -1;
};

}  // namespace

Machine read_nccl_xml(const SourceText& source) { return NcclReader(source).read(); }

}  // namespace collectives
