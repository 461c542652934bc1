// hwloc's XML, read here and not by hwloc: its own reader (2.9.0) crashes on one in forty files with a few bytes changed, and
// only its tree of NUMA nodes, bridges and GPUs is of use. Below a host bridge, PCI bridges are by turns the port above and the
// upper end of a switch; the upper end stands for the switch.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>

#include "topology/assemble.hpp"
#include "topology/chips.hpp"
#include "topology/graph.hpp"
#include "topology/importers.hpp"
#include "topology/priors.hpp"
#include "topology/text_table.hpp"
#include "topology/xml_text.hpp"

namespace collectives {
namespace {

/// The number of the one bit in a set such as 0x00000001,0x0: words of 32 bits, the highest first, a word left out being 0.
/// -1 if there is not exactly one.
int only_member(std::string_view set) {
  int member = -1;
  for (int word = 0; !set.empty(); ++word) {
    const auto comma = set.rfind(',');
    std::string_view digits = comma == std::string_view::npos ? set : set.substr(comma + 1);
    set = comma == std::string_view::npos ? std::string_view() : set.substr(0, comma);
    if (digits.starts_with("0x")) digits.remove_prefix(2);
    std::uint32_t bits = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), bits, 16);
    if (bits == 0) continue;
    if (member >= 0 || (bits & (bits - 1)) != 0) return -1;
    member = 32 * word + std::countr_zero(bits);
  }
  return member;
}

std::string_view info(pugi::xml_node object, const char* name) {
  return object.find_child_by_attribute("info", "name", name).attribute("value").value();
}

std::uint64_t whole(std::string_view text) {
  std::uint64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

/// Speeds are those of the moment, so a slow one may be that of an idle link. From 16 lanes of Gen3 up it says something.
double rate_of(pugi::xml_node object) {
  const double speed = object.attribute("pci_link_speed").as_double();
  return slot_gb_per_s(speed > 60 ? 5 : speed > 30 ? 4 : speed > 15 ? 3 : 0, 16);
}

class HwlocReader {
 public:
  explicit HwlocReader(const SourceText& source) : source_(source), xml_(source) {}

  Machine read() {
    const auto root = xml_.root();
    const std::string_view version = root.attribute("version").value();
    if (std::string_view(root.name()) != "topology" || !version.starts_with("2."))
      xml_.fail(root,
                fmt::format("<topology> of hwloc's XML version 2, found '{}'; newer versions of lstopo write it with --export-xml-flags v2",
                            shown(version)));
    for (const auto object : root.children("object")) read_numa_nodes(object);
    if (machine_.nodes.empty()) xml_.fail(root, "a NUMANode object");
    for (const auto object : root.children("object")) read_object(object, {});
    number_gpus();
    for (const auto distances : root.children("distances2hetero"))
      if (std::string_view(distances.attribute("name").value()) == "NVLinkBandwidth") read_nvlinks(distances);
    complete_tree(machine_, nvlinks_, source_);
    return std::move(machine_);
  }

 private:
  /// Where the walk stands.
  struct Place {
    int numa = -1;
    int above = -1;        ///< the node that a device here hangs off
    int bridges = 0;       ///< PCI bridges passed below the host bridge
    double port_rate = 0;  ///< of the last of them
  };

  static bool is(pugi::xml_node object, std::string_view type) { return object.attribute("type").value() == type; }

  int add(Node node, pugi::xml_node element) {
    if (machine_.nodes.size() == max_nodes) xml_.fail(element, fmt::format("at most {} nodes", max_nodes));
    return add_node(machine_, std::move(node));
  }

  void read_numa_nodes(pugi::xml_node object) {
    if (is(object, "NUMANode") && object.attribute("subtype").value() != std::string_view("GPUMemory")) {
      Node node;
      node.kind = NodeKind::cpu;
      node.numa = std::max(-1, xml_.number(object, "os_index", -1));
      node.name = fmt::format("NUMA {}", node.numa);
      node.memory_bytes = whole(object.attribute("local_memory").value());
      add(std::move(node), object);
    }
    for (const auto below : object.children("object")) read_numa_nodes(below);
  }

  void read_object(pugi::xml_node object, Place place) {
    if (const auto set = object.attribute("nodeset")) place.numa = only_member(set.value());
    if (is(object, "Machine")) machine_.name = info(object, "DMIProductName");
    if (is(object, "Package")) objects_.push_back({"Package:" + std::string(object.attribute("gp_index").value()), cpu_of(place.numa)});
    // The rest gets no nodes, but may hold NVSwitches.
    if (is(object, "Bridge") && holds_gpu(object)) pass_bridge(object, place);
    if (is(object, "PCIDev")) read_device(object, place);
    for (const auto below : object.children("object")) read_object(below, place);
  }

  /// The NUMA node of a number; the first where the file does not say which.
  int cpu_of(int numa) const { return std::max(0, numa_node(machine_, numa)); }

  void pass_bridge(pugi::xml_node object, Place& place) {
    if (object.attribute("bridge_type").value() == std::string_view("0-1")) {
      place.above = add_bridge(object, NodeKind::host_bridge, place, cpu_of(place.numa), LinkKind::memory, 0);
      place.bridges = 0;
    } else {
      if (++place.bridges % 2 == 0)
        place.above = add_bridge(object, NodeKind::pci_switch, place, above(object, place), LinkKind::pcie, rate_of(object));
      place.port_rate = rate_of(object);
    }
  }

  int add_bridge(pugi::xml_node object, NodeKind kind, const Place& place, int above, LinkKind link, double rate) {
    Node node;
    node.kind = kind;
    node.name = kind == NodeKind::host_bridge ? "PCIe root" : "PCIe switch";
    node.pci = xml_.pci(object, "pci_busid");
    node.numa = place.numa;
    const int index = add(std::move(node), object);
    join(machine_, index, above, link, rate);
    return index;
  }

  /// Some systems show devices without a host bridge.
  int above(pugi::xml_node object, Place& place) {
    if (place.above < 0) place.above = add_bridge(object.parent(), NodeKind::host_bridge, place, cpu_of(place.numa), LinkKind::memory, 0);
    return place.above;
  }

  static bool is_gpu(pugi::xml_node object) {
    return is(object, "PCIDev") && std::string_view(object.attribute("pci_type").value()).starts_with("03") &&
           std::string_view(object.attribute("pci_type").value()).find("[10de:") == 5;
  }

  static bool holds_gpu(pugi::xml_node object) { return static_cast<bool>(object.find_node(is_gpu)); }

  void read_device(pugi::xml_node object, Place& place) {
    if (object.attribute("subtype").value() == std::string_view("NVSwitch")) {
      objects_.push_back({"PCIDev:" + std::string(object.attribute("gp_index").value()), nvswitch_of(machine_)});
      return;
    }
    if (!is_gpu(object)) return;
    if (gpus_.size() == max_described_gpus) xml_.fail(object, fmt::format("at most {} GPUs", max_described_gpus));
    Node node;
    node.name = "GPU";
    node.pci = xml_.pci(object, "pci_busid");
    node.numa = place.numa;
    int cuda = -1;
    for (const auto os : object.children("object")) {
      if (const auto model = info(os, "GPUModel"); !model.empty()) node.name = model;
      if (const auto uuid = info(os, "NVIDIAUUID"); !uuid.empty()) node.uuid = uuid;
      if (const auto units = info(os, "CUDAMultiProcessors"); !units.empty())
        node.multiprocessors = std::max(0, whole_number(units).value_or(0));
      if (const auto size = info(os, "CUDAGlobalMemorySize"); !size.empty()) node.memory_bytes = whole(size) * 1024;
      cuda = std::max(cuda, number_behind("cuda", os.attribute("name").value()).value_or(-1));
    }
    node.compute_capability = chip_named(node.name);
    const int where = above(object, place), gpu = add(std::move(node), object);
    join(machine_, gpu, where, LinkKind::pcie, std::max(rate_of(object), place.port_rate));
    gpus_.push_back({gpu, cuda});
    for (const auto os : object.children("object")) objects_.push_back({"OSDev:" + std::string(os.attribute("gp_index").value()), gpu});
  }

  /// By CUDA's own numbers where the file has them of all, else in the order of addresses.
  void number_gpus() {
    if (gpus_.empty())
      xml_.fail(xml_.root(), "an NVIDIA GPU among the PCI devices; lstopo leaves them out without --whole-io or -v on some versions");
    const bool known = std::all_of(gpus_.begin(), gpus_.end(), [](const auto& gpu) { return gpu.second >= 0; });
    const auto pci = [this](int gpu) -> const std::string& { return machine_.nodes[static_cast<std::size_t>(gpu)].pci; };
    std::stable_sort(gpus_.begin(), gpus_.end(), [&](const auto& a, const auto& b) { return pci(a.first) < pci(b.first); });
    for (std::size_t i = 0; i < gpus_.size(); ++i)
      machine_.nodes[static_cast<std::size_t>(gpus_[i].first)].device = known ? gpus_[i].second : static_cast<int>(i);
  }

  /// A matrix in MB/s between any of GPUs, NVSwitches and packages.
  void read_nvlinks(pugi::xml_node distances) {
    std::vector<int> ends;
    each_word(distances, "indexes", [&](std::string_view name) {
      const auto found = std::find_if(objects_.begin(), objects_.end(), [&](const auto& object) { return object.first == name; });
      ends.push_back(found == objects_.end() ? -1 : found->second);
      if (ends.size() > 4 * max_described_gpus) xml_.fail(distances, "fewer ends of NVLinks");
    });
    std::size_t place = 0;
    each_word(distances, "u64values", [&](std::string_view value) {
      const std::size_t row = place / std::max<std::size_t>(ends.size(), 1), column = place % std::max<std::size_t>(ends.size(), 1);
      ++place;
      if (row < ends.size() && ends[row] >= 0 && ends[column] >= 0 && ends[row] != ends[column])
        add_nvlink(ends[row], ends[column], whole(value));
    });
    if (place != ends.size() * ends.size()) xml_.fail(distances, fmt::format("{} values, found {}", ends.size() * ends.size(), place));
  }

  void add_nvlink(int from, int to, std::uint64_t mb_per_s) {
    if (mb_per_s == 0 || mb_per_s > 10'000'000) return;
    // Generations 2 to 4 run at 25 GB/s a link, the first at 20.
    const std::uint64_t line = mb_per_s % 25'000 != 0 && mb_per_s % 20'000 == 0 ? 20'000 : 25'000;
    nvlinks_[{from, to}] += static_cast<unsigned>(std::max<std::uint64_t>(1, mb_per_s / line));
    // The matrix has both directions, `join` makes both.
    if (from < to) join(machine_, from, to, LinkKind::nvlink, static_cast<double>(mb_per_s) / 1000);
  }

  template <typename Visitor>
  static void each_word(pugi::xml_node parent, const char* child, Visitor visit) {
    for (const auto element : parent.children(child)) {
      std::string_view text = element.text().get();
      while (!text.empty()) {
        const auto begin = std::min(text.find_first_not_of(" \t\r\n"), text.size());
        text.remove_prefix(begin);
        const auto end = std::min(text.find_first_of(" \t\r\n"), text.size());
        if (end > 0) visit(text.substr(0, end));
        text.remove_prefix(end);
      }
    }
  }

  const SourceText& source_;
  XmlText xml_;
  Machine machine_;
  std::vector<std::pair<int, int>> gpus_;             ///< node and CUDA's number, -1 if the file has none
  std::vector<std::pair<std::string, int>> objects_;  ///< "OSDev:802" and the node that it is of
  NvlinkCounts nvlinks_;
};

}  // namespace

Machine read_hwloc_xml(const SourceText& source) { return HwlocReader(source).read(); }

}  // namespace collectives
