#include <fmt/format.h>

#include <collectives/error.hpp>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "machines.hpp"
#include "test.hpp"
#include "variable.hpp"
#include "topology/assemble.hpp"
#include "topology/detect.hpp"
#include "topology/graph.hpp"
#include "topology/hwloc_functions.hpp"
#include "topology/nvml.hpp"
#include "topology/priors.hpp"

using namespace collectives;

namespace {

/// What stands in for a driver. NVML's order is not CUDA's: its device i is the GPU on bus 0x10 * (i + 1).
struct Driver {
  enum class FarEnd { hidden, all_ones, itself, switches, neighbour, stranger };
  unsigned gpus = 2;
  unsigned links = 0;  ///< active ones of each GPU
  FarEnd far = FarEnd::switches;
  bool needs_training = false;
  int trained = 0;
  bool field = true;  ///< whether the field for a link's state works
  bool remote_type = true;
  int nvlink_status = nvml::ok;
  int write_status = nvml::ok;
  int ancestor = nvml::node;
  unsigned mig = 0;
  unsigned long long bar1_bytes = 0;
  int result = 0;  ///< of every call but init
  int open = 0;
};

Driver driver;

unsigned index_of(nvml::Device device) { return static_cast<unsigned>(reinterpret_cast<std::size_t>(device) - 1); }

template <typename Value>
int give(Value* out, Value value) {
  if (driver.result == 0) *out = value;
  return driver.result;
}

int give_text(char* out, unsigned size, const std::string& text) {
  if (driver.result == 0) std::snprintf(out, size, "%s", text.c_str());
  return driver.result;
}

int far_pci(nvml::Device device, unsigned, nvml::PciInfo* out) {
  *out = {};
  switch (driver.far) {
    case Driver::FarEnd::hidden:
      return 0;
    case Driver::FarEnd::all_ones:
      out->domain = 0xffffff, out->bus = 0xffffff, out->device = 0xff;
      return 0;
    case Driver::FarEnd::itself:
      out->bus = 0x10 * (index_of(device) + 1);
      return 0;
    case Driver::FarEnd::switches:
      out->bus = 0xc4;
      return 0;
    case Driver::FarEnd::neighbour:
      out->bus = 0x10 * ((index_of(device) ^ 1) + 1);
      return 0;
    case Driver::FarEnd::stranger:
      out->bus = 0xee;
      return 0;
  }
  return 1;
}

int far_type(nvml::Device, unsigned, int* out) {
  if (driver.far == Driver::FarEnd::hidden || driver.far == Driver::FarEnd::all_ones) return give<int>(out, nvml::remote_unknown);
  return give<int>(out, driver.far == Driver::FarEnd::switches ? nvml::remote_switch : nvml::remote_gpu);
}

bool is_up(unsigned link) { return link < driver.links && (!driver.needs_training || driver.trained > 0); }

Nvml functions() {
  Nvml nvml;
  nvml.init = [] { return ++driver.open, 0; };
  nvml.shutdown = [] { return --driver.open, 0; };
  nvml.driver_version = [](char* out, unsigned size) { return give_text(out, size, "580.1"); };
  nvml.count = [](unsigned* out) { return give(out, driver.gpus); };
  nvml.handle = [](unsigned i, nvml::Device* out) { return give(out, reinterpret_cast<nvml::Device>(std::size_t{i} + 1)); };
  nvml.name = [](nvml::Device device, char* out, unsigned size) { return give_text(out, size, fmt::format("GPU {}", index_of(device))); };
  nvml.uuid = [](nvml::Device device, char* out, unsigned size) { return give_text(out, size, fmt::format("GPU-{}", index_of(device))); };
  nvml.pci = [](nvml::Device device, nvml::PciInfo* out) {
    out->bus = 0x10 * (index_of(device) + 1);
    return driver.result;
  };
  nvml.compute_capability = [](nvml::Device, int* major, int* minor) { return give(major, 9), give(minor, 0); };
  nvml.most_generation = [](nvml::Device, unsigned* out) { return give(out, 4u); };
  nvml.most_width = [](nvml::Device, unsigned* out) { return give(out, 16u); };
  nvml.bar1 = [](nvml::Device, nvml::Bar1Memory* out) { return give(out, nvml::Bar1Memory{driver.bar1_bytes, 0, 0}); };
  nvml.mig = [](nvml::Device, unsigned* current, unsigned* pending) { return give(current, driver.mig), give(pending, 0u); };
  nvml.ancestor = [](nvml::Device, nvml::Device, int* out) { return give(out, driver.ancestor); };
  nvml.peer_status = [](nvml::Device, nvml::Device, int capability, int* out) {
    return give(out, capability == nvml::nvlink ? driver.nvlink_status : capability == nvml::write ? driver.write_status : 0);
  };
  nvml.fields = [](nvml::Device, int, nvml::FieldValue* out) {
    out->result = driver.field && out->field == 165 ? 0 : 3;
    out->value.number = is_up(out->scope);
    return driver.result;
  };
  nvml.link_state = [](nvml::Device, unsigned link, unsigned* out) { return give<unsigned>(out, is_up(link)); };
  nvml.link_capability = [](nvml::Device, unsigned, unsigned, unsigned* out) { return ++driver.trained, give(out, 1u); };
  nvml.link_version = [](nvml::Device, unsigned, unsigned* out) { return give(out, 6u); };
  if (driver.remote_type) nvml.link_remote_type = far_type;
  nvml.link_remote_pci = far_pci;
  return nvml;
}

/// What CUDA would have found: its device 0 is the last of NVML's.
Machine from_cuda(unsigned gpus, bool access) {
  Machine machine;
  for (unsigned device = 0; device < gpus; ++device) {
    Node node;
    node.name = "as CUDA calls it";
    node.device = static_cast<int>(device);
    node.pci = fmt::format("0000:{:02x}:00.0", 0x10 * (gpus - device));
    node.compute_capability = 90;
    add_node(machine, node);
  }
  for (int from = 0; from < static_cast<int>(gpus); ++from)
    for (int to = 0; to < static_cast<int>(gpus); ++to)
      if (from != to) peer_entry(machine, from, to).access = access;
  return machine;
}

Machine detected(const Driver& with, unsigned cuda_gpus = 2, bool access = true) {
  driver = with;
  Machine machine = from_cuda(cuda_gpus, access);
  read_nvml(functions(), machine);
  complete(machine);
  CHECK(driver.open == 0);
  CHECK_NOTHROW(validate(machine));
  return machine;
}

}  // namespace

TEST_CASE("this machine is detected, valid and round-trips", "[topology][detect]") {
  const Machine machine = detect_machine();
  CHECK_NOTHROW(validate(machine));
  CHECK(machine_from_json(to_json(machine)) == machine);
  int numa_nodes = 0;
  for (const Node& node : machine.nodes) numa_nodes += node.kind == NodeKind::cpu && node.memory_bytes > 0;
  CHECK(numa_nodes >= 1);
  const auto gpus = machine.gpus().size();
  CHECK(machine.peers.size() == gpus * (gpus - (gpus > 0 ? 1 : 0)));
  CHECK_FALSE(peer_table(machine).empty());
}

TEST_CASE("without NVML its fields stay empty", "[topology][detect]") {
  Machine machine = from_cuda(2, true);
  const Machine before = machine;
  read_nvml(Nvml{}, machine);
  CHECK(machine == before);
}

TEST_CASE("NVML's GPUs are joined by address, in whatever order it lists them", "[topology][detect][nvml]") {
  const Machine machine = detected({.gpus = 3, .links = 18}, 2);
  // CUDA sees the GPUs on buses 20 and 10; the third is NVML's alone.
  REQUIRE(machine.gpus() == std::vector<int>{0, 1, 2});
  CHECK(machine.nodes[0].pci == "0000:20:00.0");
  CHECK(machine.nodes[1].pci == "0000:10:00.0");
  CHECK(machine.nodes[0].name == "as CUDA calls it");
  CHECK(machine.nodes[2].pci == "0000:30:00.0");
  CHECK(machine.nodes[2].name == "GPU 2");
  CHECK(machine.nodes[2].device == -1);
  CHECK(machine.driver == "580.1");
  CHECK(machine.peer(0, 1)->access);
  CHECK_FALSE(machine.peer(0, 2)->access);
  CHECK(machine.peer(0, 2)->reason == "CUDA cannot see one of them");
}

TEST_CASE("a GPU whose address NVML does not give is joined by UUID, never by index", "[topology][detect][nvml]") {
  driver = {};
  Nvml nvml = functions();
  nvml.pci = nullptr;
  Machine machine = from_cuda(2, true);
  machine.nodes[0].uuid = "GPU-1";
  machine.nodes[1].uuid = "GPU-0";
  read_nvml(nvml, machine);
  CHECK(machine.nodes.size() == 2);
  // Without either, NVML's device 0 must not become CUDA's device 0.
  Machine strangers = from_cuda(2, true);
  read_nvml(nvml, strangers);
  CHECK(strangers.gpus().size() == 4);
}

TEST_CASE("NVLinks to a switch, or to an end that a virtual machine hides, lead to every GPU", "[topology][detect][nvml]") {
  using FarEnd = Driver::FarEnd;
  const FarEnd far = GENERATE(FarEnd::switches, FarEnd::hidden, FarEnd::all_ones, FarEnd::itself);
  const bool field = GENERATE(true, false);
  CAPTURE(static_cast<int>(far), field);
  const Machine machine = detected({.gpus = 4, .links = 18, .far = far, .field = field}, 4);
  CHECK(machine.peer(0, 3)->path == "NV18");
  CHECK(machine.peer(0, 3)->gb_per_s == Approx(370));
  CHECK(machine.peer(0, 3)->latency_us == 0.7);
  REQUIRE(machine.nodes.size() == 5);
  CHECK(machine.nodes[4].kind == NodeKind::nvswitch);
  REQUIRE(machine.links.size() == 8);
  CHECK(machine.links[0] == Link{machine.links[0].from, 4, LinkKind::nvlink, 450, 0, Evidence::claimed});
}

TEST_CASE("a driver that does not tell the type of far ends still tells a switch from a GPU", "[topology][detect][nvml]") {
  CHECK(detected({.links = 12, .far = Driver::FarEnd::switches, .remote_type = false}).nodes.size() == 3);
  const Machine pair = detected({.links = 12, .far = Driver::FarEnd::neighbour, .remote_type = false});
  CHECK(pair.nodes.size() == 2);
  CHECK(pair.peer(1, 0)->path == "NV12");
}

TEST_CASE("bridges join pairs and the rest goes over PCIe", "[topology][detect][nvml]") {
  const Machine machine = detected({.gpus = 4, .links = 4, .far = Driver::FarEnd::neighbour}, 4);
  CHECK(machine.peer(0, 1)->path == "NV4");
  CHECK(machine.peer(2, 3)->path == "NV4");
  CHECK(machine.peer(1, 2)->path == "NODE");
  CHECK(machine.peer(1, 2)->gb_per_s == Approx(1.969 * 0.83 * 16));
  CHECK(machine.links.size() == 4);
  CHECK(machine.nodes.size() == 4);
}

TEST_CASE("links to a GPU of somebody else count for nothing", "[topology][detect][nvml]") {
  const Machine machine = detected({.links = 4, .far = Driver::FarEnd::stranger});
  CHECK(machine.peer(0, 1)->path == "NODE");
  CHECK(machine.links.empty());
}

TEST_CASE("a switch that does not lead to the peer is not a path", "[topology][detect][nvml]") {
  const Machine machine = detected({.links = 18, .nvlink_status = nvml::not_supported, .ancestor = nvml::system});
  CHECK(machine.peer(0, 1)->path == "SYS");
}

TEST_CASE("links are trained only where all are down", "[topology][detect][nvml]") {
  CHECK(detected({.links = 6, .needs_training = true}).peer(0, 1)->path == "NV6");
  CHECK(driver.trained > 0);
  detected({.links = 3});
  CHECK(driver.trained == 0);
}

TEST_CASE("every distance of NVML has its name", "[topology][detect][nvml]") {
  const auto [ancestor, path] =
      GENERATE(table<int, const char*>({{0, "PIX"}, {10, "PIX"}, {20, "PXB"}, {30, "PHB"}, {40, "NODE"}, {50, "SYS"}, {60, ""}}));
  CHECK(detected({.ancestor = ancestor}).peer(0, 1)->path == path);
}

TEST_CASE("where CUDA refuses, NVML's status says why", "[topology][detect][nvml]") {
  const auto [status, words] = GENERATE(table<int, const char*>({{0, "CUDA refuses although NVML reports it as possible"},
                                                                 {1, "chipset"},
                                                                 {2, "kind of GPU"},
                                                                 {3, "I/O hubs"},
                                                                 {4, "registry key"},
                                                                 {5, "for this pair"},
                                                                 {6, "does not say why"},
                                                                 {77, "does not say why"}}));
  CHECK_THAT(detected({.write_status = status}, 2, false).peer(0, 1)->reason, ContainsSubstring(words));
  CHECK_FALSE(detected({.write_status = status}, 2, false).peer(0, 1)->remedy.empty());
  CHECK(detected({.write_status = status}, 2, true).peer(0, 1)->reason.empty());
  CHECK(detected({.write_status = status}, 2, true).peer(0, 1)->remedy.empty());
}

TEST_CASE("what else is known of a refused pair makes reason and remedy plain", "[topology][detect][nvml]") {
  const auto refused = [](const Driver& with, const auto& change) {
    driver = with;
    Machine machine = from_cuda(2, false);
    change(machine);
    read_nvml(functions(), machine);
    return *machine.peer(0, 1);
  };
  const auto as_is = [](Machine&) {};
  CHECK_THAT(refused({.write_status = nvml::not_supported, .mig = 1}, as_is).remedy, ContainsSubstring("nvidia-smi -mig 0"));
  CHECK_THAT(refused({.write_status = nvml::not_supported}, [](Machine& machine) { machine.nodes[0].compute_capability = 89; }).reason,
             ContainsSubstring("different chips"));
  const Peer guest = refused({.write_status = nvml::chipset}, [](Machine& machine) { machine.hypervisor = "QEMU"; });
  CHECK_THAT(guest.reason, ContainsSubstring("virtual machine (QEMU)"));
  CHECK_THAT(guest.remedy, ContainsSubstring("clique"));
  const Peer small = refused({.bar1_bytes = 256u << 20}, [](Machine& machine) { machine.nodes[1].memory_bytes = 24ull << 30; });
  CHECK_THAT(small.reason, ContainsSubstring("256 MiB"));
  CHECK_THAT(small.remedy, ContainsSubstring("Resizable BAR"));
  CHECK_THAT(detected({.gpus = 3}, 2).peer(0, 2)->remedy, ContainsSubstring("CUDA_VISIBLE_DEVICES"));
}

TEST_CASE("a driver whose every call fails, or that lacks any one, changes nothing for CUDA's GPUs", "[topology][detect][nvml]") {
  const Machine failing = detected({.links = 18, .result = 999});
  CHECK(failing.gpus() == std::vector<int>{0, 1});
  CHECK(failing.peer(0, 1)->access);
  CHECK(failing.driver.empty());

  // The functions are a table of pointers, so any one of them can be taken out.
  for (std::size_t missing = 0; missing < sizeof(Nvml) / sizeof(void*); ++missing) {
    driver = {.links = 18};
    Nvml nvml = functions();
    std::memset(reinterpret_cast<char*>(&nvml) + missing * sizeof(void*), 0, sizeof(void*));
    Machine machine = from_cuda(2, true);
    CAPTURE(missing);
    CHECK_NOTHROW(read_nvml(nvml, machine));
    complete(machine);
    CHECK_NOTHROW(validate(machine));
    CHECK(machine.peer(0, 1)->access);
  }
}

TEST_CASE("GPUs get their NUMA node by PCI address and a link to it", "[topology][detect][hwloc]") {
  if (hwloc_if_there() == nullptr) {
    WARN("no libhwloc here: what it tells was not tested");
    return;
  }
  const Variable xml("HWLOC_XMLFILE", machine_path("two_sockets.hwloc.xml"));
  Machine machine;
  // The third hangs off the machine as a whole, the fourth is not there.
  for (const char* pci : {"0000:81:00.0", "0000:01:00.0", "0000:c1:00.0", "10000:81:00.0"}) {
    Node node;
    node.pci = pci;
    node.pcie_generation = 4;
    node.pcie_width = 16;
    add_node(machine, node);
  }
  add_hwloc(machine);
  complete(machine);
  CHECK_NOTHROW(validate(machine));
  CHECK(machine.name == "Two Socket Box");
  CHECK(machine.nodes[0].numa == 2);
  CHECK(machine.nodes[1].numa == 0);
  CHECK(machine.nodes[2].numa == -1);
  CHECK(machine.nodes[3].numa == -1);
  REQUIRE(machine.nodes.size() == 6);
  CHECK(machine.nodes[4].name == "NUMA 0");
  CHECK(machine.nodes[4].memory_bytes == 1000000000);
  CHECK(machine.nodes[5].numa == 2);
  // Two GPUs that are near a CPU, and the two CPUs.
  REQUIRE(machine.links.size() == 6);
  CHECK(machine.links[0] == Link{0, 5, LinkKind::pcie, slot_gb_per_s(4, 16), 0, Evidence::claimed});
  CHECK(machine.links[1] == Link{5, 0, LinkKind::pcie, slot_gb_per_s(4, 16), 0, Evidence::claimed});
  CHECK(machine.links[4].kind == LinkKind::socket);
}

TEST_CASE("an hwloc that is missing, or is another library, is none", "[topology][detect][hwloc]") {
  CHECK_FALSE(open_hwloc("libno-such-hwloc.so.15").usable());
  CHECK_FALSE(open_hwloc("libm.so.6").usable());
  HwlocFunctions other = open_hwloc("libhwloc.so.15");
  if (!other.usable()) return;
  other.api_version = [] { return 3u << 16; };
  CHECK_FALSE(other.usable());
}

TEST_CASE("without hwloc's answer there are no NUMA nodes and no error", "[topology][detect][hwloc]") {
  const Variable xml("HWLOC_XMLFILE", "/nonexistent/hwloc.xml");
  Machine machine;
  CHECK_NOTHROW(add_hwloc(machine));
  CHECK_NOTHROW(complete(machine));
}
