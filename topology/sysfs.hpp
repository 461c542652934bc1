#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace collectives {

/// What the kernel says of PCI devices and of this system. What it does not say, or not to this user, stays at its default.
class Sysfs {
 public:
  /// `root` holds proc/ and sys/.
  explicit Sysfs(std::filesystem::path root) : root_(std::move(root)) {}

  /// A way from a host bridge down to a device.
  struct Chain {
    std::string host_bridge;           ///< as the kernel names it, such as pci0000:40; empty if the device is not known
    std::vector<std::string> devices;  ///< addresses: ports from the root down, the device itself last
  };
  Chain chain(const std::string& pci) const;

  /// What a device can do, whatever its link does now: idle links run slower.
  struct Slot {
    int generation = 0, width = 0;
  };
  Slot most(const std::string& pci) const;

  int numa(const std::string& pci) const;

  struct NumaNode {
    int number = 0;
    std::uint64_t memory_bytes = 0;
  };
  /// Those with CPUs, in the order of their numbers: memory of GPUs is shown as nodes without.
  std::vector<NumaNode> numa_nodes() const;
  /// The size of the region that NVIDIA's GPUs show their memory through.
  std::uint64_t bar1_bytes(const std::string& pci) const;
  /// Does a port send requests between devices below it up to the root? Needs the rights of root.
  bool acs_redirects(const std::string& pci) const;
  /// "off", "passthrough" or "translated", for a device.
  std::string iommu(const std::string& pci) const;
  /// Who made this virtual machine, as its firmware says; empty on bare metal.
  std::string hypervisor() const;
  /// What this machine is sold as; empty where it does not say.
  std::string product() const;

 private:
  std::filesystem::path device(const std::string& pci) const { return root_ / "sys/bus/pci/devices" / pci; }

  std::filesystem::path root_;
};

}  // namespace collectives
