// The counterpart of import_nccl.cpp: what NCCL reads from NCCL_TOPO_FILE. It finds GPUs by address and asks the system for
// what is left out, so what the machine does not know is left out.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <pugixml.hpp>
#include <set>
#include <sstream>

#include "base/require.hpp"
#include "topology/graph.hpp"
#include "topology/priors.hpp"

namespace collectives {
namespace {

struct Slot {
  unsigned generation = 0, width = 0;
};

/// The generation and width whose rate is nearest.
Slot slot_like(double gb_per_s) {
  Slot best;
  double least = INFINITY;
  for (const unsigned width : {16u, 8u, 4u, 2u, 1u})
    for (unsigned generation = 1; generation <= 6; ++generation) {
      const double distance = std::abs(slot_gb_per_s(generation, width) - gb_per_s);
      if (distance < least) least = distance, best = {generation, width};
    }
  return best;
}

class NcclWriter {
 public:
  explicit NcclWriter(const Machine& machine) : machine_(machine), written_(machine.nodes.size()) {}

  std::string write() {
    auto system = document_.append_child("system");
    system.append_attribute("version") = 1;
    for (std::size_t i = 0; i < machine_.nodes.size(); ++i)
      if (machine_.nodes[i].kind == NodeKind::cpu) write_cpu(system, static_cast<int>(i));
    // What hangs off no CPU.
    pugi::xml_node nowhere;
    for (const int gpu : machine_.gpus()) {
      if (written_[static_cast<std::size_t>(gpu)]) continue;
      if (!nowhere) nowhere = system.append_child("cpu"), nowhere.append_attribute("numaid") = -1;
      write_pci(nowhere, gpu, 0);
    }
    std::ostringstream out;
    document_.save(out, "  ", pugi::format_indent | pugi::format_no_declaration);
    return out.str();
  }

 private:
  const Node& node(int index) const { return machine_.nodes[static_cast<std::size_t>(index)]; }

  void write_cpu(pugi::xml_node system, int cpu) {
    auto element = system.append_child("cpu");
    element.append_attribute("numaid") = node(cpu).numa;
    written_[static_cast<std::size_t>(cpu)] = true;
    for (const Link& link : machine_.links) {
      if (link.from != cpu || link.kind == LinkKind::socket || link.kind == LinkKind::nvlink) continue;
      if (node(link.to).kind == NodeKind::host_bridge)
        write_below(element, link.to);
      else
        write_pci(element, link.to, link.gb_per_s);
    }
  }

  void write_below(pugi::xml_node element, int above) {
    written_[static_cast<std::size_t>(above)] = true;
    for (const Link& link : machine_.links)
      if (link.from == above && link.kind == LinkKind::pcie) write_pci(element, link.to, link.gb_per_s);
  }

  /// A GPU or a switch with what is below it. Its depth is that of the machine's graph; each node is written once.
  void write_pci(pugi::xml_node parent, int index, double gb_per_s) {
    const Node& device = node(index);
    const bool is_gpu = device.kind == NodeKind::gpu;
    if (written_[static_cast<std::size_t>(index)] || (!is_gpu && device.kind != NodeKind::pci_switch)) return;
    written_[static_cast<std::size_t>(index)] = true;
    require(!is_gpu || !device.pci.empty(), [&] {
      return fmt::format("expected a PCI address for {}, by which NCCL finds GPUs: `collectives topo --json` on that machine writes it, lstopo's XML, a file of "
                         "NCCL_TOPO_DUMP_FILE and p2pBandwidthLatencyTest have it too, but no matrix of nvidia-smi, below which the test's output may stand",
                         device.device >= 0 ? fmt::format("GPU{}", device.device) : fmt::format("node {}, which CUDA does not see", index));
    });
    auto element = parent.append_child("pci");
    element.append_attribute("busid") = (device.pci.empty() ? invented_address() : device.pci).c_str();
    element.append_attribute("class") = is_gpu ? "0x030200" : "0x060400";
    write_slot(element, device, gb_per_s);
    if (is_gpu)
      write_gpu(element, index);
    else
      write_below(element, index);
  }

  void write_slot(pugi::xml_node element, const Node& device, double gb_per_s) const {
    Slot slot{static_cast<unsigned>(device.pcie_generation), static_cast<unsigned>(device.pcie_width)};
    if (slot.generation == 0 || slot.width == 0) slot = gb_per_s > 0 ? slot_like(gb_per_s) : Slot{};
    if (slot.generation == 0) return;
    constexpr const char* speeds[] = {
        "", "2.5 GT/s PCIe", "5.0 GT/s PCIe", "8.0 GT/s PCIe", "16.0 GT/s PCIe", "32.0 GT/s PCIe", "64.0 GT/s PCIe"};
    element.append_attribute("link_speed") = speeds[std::min<std::size_t>(slot.generation, std::size(speeds) - 1)];
    element.append_attribute("link_width") = slot.width;
  }

  void write_gpu(pugi::xml_node parent, int gpu) const {
    if (node(gpu).device < 0) return;
    auto element = parent.append_child("gpu");
    element.append_attribute("dev") = node(gpu).device;
    if (node(gpu).compute_capability > 0) element.append_attribute("sm") = node(gpu).compute_capability;
    element.append_attribute("rank") = node(gpu).device;
    element.append_attribute("gdr") = 1;
    for (const Link& link : machine_.links)
      if (link.from == gpu && link.kind == LinkKind::nvlink) write_nvlink(element, link);
  }

  void write_nvlink(pugi::xml_node parent, const Link& link) const {
    const Node& far = node(link.to);
    const bool is_switch = far.kind == NodeKind::nvswitch;
    if (!is_switch && far.pci.empty()) return;
    auto element = parent.append_child("nvlink");
    // The address that NCCL itself writes where it cannot see the far end.
    element.append_attribute("target") = far.pci.empty() ? "fffffff:ffff:ff" : far.pci.c_str();
    const double line = nvlink_line_gb_per_s(node(link.from).compute_capability);
    element.append_attribute("count") = static_cast<int>(std::clamp(std::round(link.gb_per_s / line), 1.0, 64.0));
    element.append_attribute("tclass") = is_switch ? "0x068000" : "0x030200";
  }

  /// NCCL wants an address of every switch. None of a real machine is in the last bus of the last domain.
  std::string invented_address() {
    const auto number = ++invented_;
    return pci_address(0xffff, 0xff - number / 32, number % 32, 0);
  }

  const Machine& machine_;
  pugi::xml_document document_;
  std::vector<bool> written_;
  std::uint32_t invented_ = 0;
};

}  // namespace

std::string to_nccl_xml(const Machine& machine) {
  validate(machine);
  return NcclWriter(machine).write();
}

}  // namespace collectives
