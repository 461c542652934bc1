#include "topology/sysfs.hpp"

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <sstream>

#include "topology/graph.hpp"
#include "topology/priors.hpp"

namespace collectives {
namespace fs = std::filesystem;
namespace {

/// The first 4 KiB of a file, as much as any of these holds; empty if it cannot be read.
std::string contents(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::array<char, 4096> buffer;
  file.read(buffer.data(), buffer.size());
  return {buffer.data(), static_cast<std::size_t>(file.gcount())};
}

std::string first_line(const fs::path& path) {
  const std::string text = contents(path);
  return text.substr(0, text.find('\n'));
}

int number(const fs::path& path, int otherwise) {
  int value = 0;
  std::istringstream text(first_line(path));
  return text >> value ? value : otherwise;
}

/// Little-endian, 0 beyond the end.
std::uint32_t word(const std::string& config, std::size_t offset, std::size_t bytes) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < bytes && offset + i < config.size(); ++i)
    value |= std::uint32_t{static_cast<unsigned char>(config[offset + i])} << (8 * i);
  return value;
}

/// Where a capability begins in the configuration space beyond its first 256 bytes; 0 if it is not there or cannot be read.
std::size_t extended_capability(const std::string& config, std::uint32_t wanted) {
  std::size_t offset = 0x100;
  // Each takes at least 8 bytes, so no chain without a loop is longer.
  for (int steps = 0; steps < 480 && offset >= 0x100; ++steps) {
    const std::uint32_t header = word(config, offset, 4);
    if (header == 0) return 0;
    if ((header & 0xffff) == wanted) return offset;
    offset = header >> 20;
  }
  return 0;
}

}  // namespace

Sysfs::Chain Sysfs::chain(const std::string& pci) const {
  std::error_code error;
  const fs::path real = fs::canonical(device(pci), error);
  Chain chain;
  if (error) return chain;
  for (const fs::path& part : real) {
    const std::string name = part.string();
    if (name.starts_with("pci")) {
      // Some controllers open a domain of their own below a device of another.
      chain.host_bridge = name;
      chain.devices.clear();
    }
    if (!chain.host_bridge.empty() && is_pci_address(name)) chain.devices.push_back(name);
  }
  return chain;
}

Sysfs::Slot Sysfs::most(const std::string& pci) const {
  return {static_cast<int>(pcie_generation(first_line(device(pci) / "max_link_speed"))),
          std::clamp(number(device(pci) / "max_link_width", 0), 0, 32)};
}

int Sysfs::numa(const std::string& pci) const { return std::max(-1, number(device(pci) / "numa_node", -1)); }

std::vector<Sysfs::NumaNode> Sysfs::numa_nodes() const {
  std::vector<NumaNode> nodes;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(root_ / "sys/devices/system/node", error)) {
    const std::string name = entry.path().filename().string();
    int number = -1;
    if (!name.starts_with("node") || !(std::istringstream(name.substr(4)) >> number) || number < 0) continue;
    if (first_line(entry.path() / "cpulist").empty()) continue;
    // Its first line is "Node 0 MemTotal: 65673912 kB".
    std::istringstream words(first_line(entry.path() / "meminfo"));
    std::string word;
    std::uint64_t kib = 0;
    while (words >> word && word != "MemTotal:") continue;
    words >> kib;
    nodes.push_back({number, kib * 1024});
  }
  std::sort(nodes.begin(), nodes.end(), [](const NumaNode& a, const NumaNode& b) { return a.number < b.number; });
  return nodes;
}

std::uint64_t Sysfs::bar1_bytes(const std::string& pci) const {
  // A line a region: first byte, last byte, flags.
  std::istringstream text(contents(device(pci) / "resource"));
  std::string line;
  std::getline(text, line);
  std::getline(text, line);
  std::istringstream fields(line);
  std::uint64_t first = 0, last = 0;
  fields >> std::hex;
  // Numbers in hexadecimal may begin with 0x.
  return fields >> first >> last && last > first ? last - first + 1 : 0;
}

bool Sysfs::acs_redirects(const std::string& pci) const {
  const std::string config = contents(device(pci) / "config");
  const std::size_t acs = extended_capability(config, 0x000d);
  constexpr std::uint32_t request_redirect = 1u << 2, completion_redirect = 1u << 3;
  return acs != 0 && (word(config, acs + 6, 2) & (request_redirect | completion_redirect)) != 0;
}

std::string Sysfs::iommu(const std::string& pci) const {
  std::error_code error;
  if (!fs::exists(device(pci), error)) return "";
  if (!fs::exists(device(pci) / "iommu_group", error)) return "off";
  const std::string type = first_line(device(pci) / "iommu_group" / "type");
  return type.empty() ? "" : type == "identity" ? "passthrough" : "translated";
}

std::string Sysfs::hypervisor() const {
  std::istringstream words(contents(root_ / "proc/cpuinfo"));
  const bool is_virtual =
      std::any_of(std::istream_iterator<std::string>(words), {}, [](const std::string& flag) { return flag == "hypervisor"; });
  if (!is_virtual) return "";
  const std::string vendor = first_line(root_ / "sys/class/dmi/id/sys_vendor"), name = product();
  if (vendor.empty() && name.empty()) return "unknown";
  return vendor + (vendor.empty() || name.empty() ? "" : " ") + name;
}

std::string Sysfs::product() const { return first_line(root_ / "sys/class/dmi/id/product_name"); }

}  // namespace collectives
