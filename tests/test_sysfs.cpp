// The kernel's description of PCI devices, from small trees that these tests write.
#include <stdlib.h>

#include <collectives/topology.hpp>
#include <filesystem>
#include <fstream>
#include <tuple>

#include "test.hpp"
#include "topology/assemble.hpp"
#include "topology/detect.hpp"
#include "topology/graph.hpp"
#include "topology/priors.hpp"
#include "topology/sysfs.hpp"

using namespace collectives;
namespace fs = std::filesystem;

namespace {

/// A folder with the parts of proc/ and sys/ that are written into it, gone at the end.
class SystemTree {
 public:
  SystemTree() {
    std::string name = (fs::temp_directory_path() / "collectives-sysfs-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()));
    root_ = name;
    fs::create_directories(root_ / "sys/bus/pci/devices");
  }
  ~SystemTree() { fs::remove_all(root_); }
  SystemTree(const SystemTree&) = delete;
  SystemTree& operator=(const SystemTree&) = delete;

  const fs::path& root() const { return root_; }

  void write(const fs::path& file, std::string_view text) const {
    fs::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file, std::ios::binary) << text;
  }

  /// A device at the end of a way such as pci0000:00/0000:00:01.0/0000:01:00.0.
  fs::path device(const std::string& way, const char* speed = "16.0 GT/s PCIe", const char* width = "16") const {
    const fs::path folder = fs::path("sys/devices") / way;
    write(folder / "max_link_speed", std::string(speed) + "\n");
    write(folder / "max_link_width", std::string(width) + "\n");
    // Idle links run slower; nothing may look at these.
    write(folder / "current_link_speed", "2.5 GT/s PCIe\n");
    write(folder / "current_link_width", "1\n");
    const fs::path link = root_ / "sys/bus/pci/devices" / folder.filename();
    if (!fs::is_symlink(link)) fs::create_directory_symlink(fs::path("../../../devices") / way, link);
    return folder;
  }

 private:
  fs::path root_;
};

int add_gpu(Machine& machine, const std::string& pci) {
  Node node;
  node.pci = pci;
  node.device = static_cast<int>(machine.nodes.size());
  node.compute_capability = 89;
  return add_node(machine, node);
}

Machine with_gpus(const std::vector<std::string>& addresses) {
  Machine machine;
  for (const auto& pci : addresses) add_gpu(machine, pci);
  for (int numa = 0; numa < 2; ++numa) {
    Node cpu;
    cpu.kind = NodeKind::cpu;
    cpu.numa = numa;
    add_node(machine, cpu);
  }
  return machine;
}

/// Configuration space whose only extended capability is access control, with these bits set.
std::string config_with_acs(unsigned control) {
  std::string config(4096, '\0');
  config[0x100] = 0x0d;
  config[0x102] = 1;
  config[0x106] = static_cast<char>(control);
  return config;
}

std::string path_between(Machine machine, int a, int b) {
  complete(machine);
  claim_peers(machine, {});
  return machine.peer(a, b)->path;
}

}  // namespace

TEST_CASE("NUMA nodes with CPUs come from the kernel where hwloc has told none", "[topology][detect][sysfs]") {
  const SystemTree tree;
  const std::tuple<const char*, const char*, const char*> nodes[] = {{"node10", "64-127", "131072000"}, {"node2", "0-63", "65536000"}, {"node3", "", "1000"}};
  for (const auto& [node, cpus, kib] : nodes) {
    const fs::path folder = fs::path("sys/devices/system/node") / node;
    tree.write(folder / "cpulist", std::string(cpus) + "\n");
    tree.write(folder / "meminfo", std::string("Node 2 MemTotal:       ") + kib + " kB\nNode 2 MemFree:        17 kB\n");
  }
  tree.write("sys/devices/system/node/online", "2,10\n");
  tree.write("sys/devices/system/node/nodes/cpulist", "0\n");
  tree.write("sys/class/dmi/id/product_name", "Big Box\n");
  Machine machine;
  add_gpu(machine, "0000:01:00.0");
  add_numa_nodes(machine, tree.root());
  CHECK_NOTHROW(validate(machine));
  CHECK(machine.name == "Big Box");
  REQUIRE(machine.nodes.size() == 3);
  CHECK(machine.nodes[1].kind == NodeKind::cpu);
  CHECK(machine.nodes[1].name == "NUMA 2");
  CHECK(machine.nodes[1].memory_bytes == std::uint64_t{65536000} * 1024);
  CHECK(machine.nodes[2].numa == 10);

  // What hwloc has told stays.
  machine.name = "as hwloc says";
  add_numa_nodes(machine, tree.root());
  CHECK(machine.nodes.size() == 3);
  CHECK(machine.name == "as hwloc says");

  Machine nothing;
  add_numa_nodes(nothing, tree.root() / "no-such");
  CHECK(nothing.nodes.empty());
}

TEST_CASE("switches and host bridges come from the kernel's tree", "[topology][sysfs]") {
  const SystemTree tree;
  const std::string upper = "pci0000:00/0000:00:01.1/0000:01:00.0/";
  tree.device("pci0000:00/0000:00:01.1");
  tree.device("pci0000:00/0000:00:01.1/0000:01:00.0");
  for (const char* way : {"0000:02:00.0", "0000:02:00.0/0000:03:00.0", "0000:02:01.0", "0000:02:01.0/0000:04:00.0"})
    tree.write(tree.device(upper + way) / "numa_node", "0\n");
  tree.device("pci0000:40/0000:40:01.1");
  tree.write(tree.device("pci0000:40/0000:40:01.1/0000:41:00.0") / "numa_node", "0\n");
  tree.device("pci10000:80/10000:80:01.1");
  tree.write(tree.device("pci10000:80/10000:80:01.1/10000:81:00.0") / "numa_node", "1\n");

  Machine machine = with_gpus({"0000:03:00.0", "0000:04:00.0", "0000:41:00.0", "10000:81:00.0"});
  add_sysfs(machine, tree.root());
  CHECK_NOTHROW(validate(machine));
  CHECK(path_between(machine, 0, 1) == "PIX");
  CHECK(path_between(machine, 0, 2) == "NODE");
  CHECK(path_between(machine, 0, 3) == "SYS");
  CHECK(machine.nodes[3].numa == 1);
  int switches = 0, bridges = 0;
  for (const Node& node : machine.nodes) switches += node.kind == NodeKind::pci_switch, bridges += node.kind == NodeKind::host_bridge;
  CHECK(switches == 1);
  CHECK(bridges == 3);
  // Two slots and the uplink below the first bridge, a slot below each other, all in both directions.
  CHECK(std::count_if(machine.links.begin(), machine.links.end(), [](const Link& link) { return link.kind == LinkKind::pcie; }) == 10);
}

TEST_CASE("a slot is what device and port both can do, whatever the link does now", "[topology][sysfs]") {
  const SystemTree tree;
  tree.device("pci0000:00/0000:00:01.1", "8.0 GT/s PCIe", "4");
  tree.device("pci0000:00/0000:00:01.1/0000:01:00.0", "32.0 GT/s PCIe", "16");
  tree.device("pci0000:00/0000:00:02.1", "32.0 GT/s PCIe", "16");
  tree.device("pci0000:00/0000:00:02.1/0000:02:00.0", "16.0 GT/s PCIe", "8");
  tree.device("pci0000:00/0000:00:03.1", "Unknown", "255");
  tree.device("pci0000:00/0000:00:03.1/0000:03:00.0", "Unknown", "0");
  Machine machine = with_gpus({"0000:01:00.0", "0000:02:00.0", "0000:03:00.0"});
  // As NVML told it of the third.
  machine.nodes[2].pcie_generation = 4;
  machine.nodes[2].pcie_width = 16;
  add_sysfs(machine, tree.root());
  const auto slot = [&](std::size_t gpu) { return std::pair(machine.nodes[gpu].pcie_generation, machine.nodes[gpu].pcie_width); };
  CHECK(slot(0) == std::pair(3, 4));
  CHECK(slot(1) == std::pair(4, 8));
  CHECK(slot(2) == std::pair(4, 16));
  CHECK(machine.links[0].gb_per_s == slot_gb_per_s(3, 4));
}

TEST_CASE("BAR1, the IOMMU and ACS are read where they may be", "[topology][sysfs]") {
  const SystemTree tree;
  const fs::path port = tree.device("pci0000:00/0000:00:01.1"), upper = tree.device("pci0000:00/0000:00:01.1/0000:01:00.0"),
                 lower = tree.device("pci0000:00/0000:00:01.1/0000:01:00.0/0000:02:00.0"),
                 gpu = tree.device("pci0000:00/0000:00:01.1/0000:01:00.0/0000:02:00.0/0000:03:00.0");
  tree.write(gpu / "resource",
             "0x00000000fa000000 0x00000000faffffff 0x0000000000040200\n0x0000002000000000 0x00000027ffffffff 0x000000000014220c\n");
  const unsigned bits = GENERATE(0u, 1u << 2, 1u << 3, 1u << 0);
  const bool redirects = bits == 1u << 2 || bits == 1u << 3;
  CAPTURE(bits);
  tree.write(lower / "config", config_with_acs(bits));
  tree.write(port / "config", config_with_acs(0x1d).substr(0, 64));  // what others than root may read
  Machine machine = with_gpus({"0000:03:00.0"});
  add_sysfs(machine, tree.root());
  CHECK(machine.nodes[0].bar1_bytes == 32ull << 30);
  CHECK(machine.iommu == "off");
  for (const Node& node : machine.nodes) CHECK(node.acs_redirect == (redirects && node.kind == NodeKind::pci_switch));

  for (const auto& [type, word] : {std::pair("identity", "passthrough"), std::pair("DMA-FQ", "translated")}) {
    tree.write(gpu / "iommu_group/type", std::string(type) + "\n");
    Machine again = with_gpus({"0000:03:00.0"});
    add_sysfs(again, tree.root());
    CHECK(again.iommu == word);
  }
}

TEST_CASE("a chain of capabilities that never ends is left", "[topology][sysfs]") {
  const SystemTree tree;
  const fs::path port = tree.device("pci0000:00/0000:00:01.1");
  std::string config(4096, '\0');
  config[0x100] = 0x01;
  config[0x103] = 0x10;  // the next is this one
  tree.write(port / "config", config);
  CHECK_FALSE(Sysfs(tree.root()).acs_redirects("0000:00:01.1"));
}

TEST_CASE("a virtual machine is told by its processor and named by its firmware", "[topology][sysfs]") {
  const SystemTree tree;
  Machine machine;
  tree.write("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu vme de\n");
  tree.write("sys/class/dmi/id/sys_vendor", "QEMU\n");
  add_platform(machine, tree.root());
  CHECK(machine.hypervisor.empty());
  tree.write("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu hypervisor de\n");
  add_platform(machine, tree.root());
  CHECK(machine.hypervisor == "QEMU");
  tree.write("sys/class/dmi/id/product_name", "Standard PC\n");
  add_platform(machine, tree.root());
  CHECK(machine.hypervisor == "QEMU Standard PC");
}

TEST_CASE("without a kernel's word nothing is added", "[topology][sysfs]") {
  const SystemTree tree;
  Machine machine = with_gpus({"0000:01:00.0"});
  const Machine before = machine;
  add_sysfs(machine, tree.root());
  add_platform(machine, tree.root() / "nowhere");
  CHECK(machine == before);
}
