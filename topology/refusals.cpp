#include "topology/refusals.hpp"

#include "topology/nvml.hpp"

namespace collectives {

Refusal refusal_for(int status) {
  switch (status) {
    case nvml::chipset:
      return {"the driver does not allow it on this chipset, as in most virtual machines",
              "in a virtual machine, ask its host to pass through the GPUs with a common peer-to-peer clique; else move both below one PCIe switch"};
    case nvml::gpu:
      return {"the driver does not allow it for this kind of GPU",
              "none with NVIDIA's own driver: it keeps PCIe peer access from GeForce cards; an NVLink bridge works where the card has one"};
    case nvml::io_hub:
      return {"the GPUs are below I/O hubs that do not forward it", "move both cards to slots of one socket"};
    case nvml::registry:
      return {"a registry key of the driver disables it",
              "look for ForceP2P or PeerMappingOverride in /proc/driver/nvidia/params and in /etc/modprobe.d, and take it out"};
    case nvml::not_supported:
      return {"the driver does not support it for this pair, as for different chips, MIG or NVSwitches that are down",
              "pair GPUs of one chip; switch MIG off (nvidia-smi -mig 0); on an NVSwitch machine see that nvidia-fabricmanager runs"};
  }
  return {"the driver does not say why", "look for NVRM lines in the kernel's log (dmesg)"};
}

int status_named(std::string_view name) {
  if (name == "OK") return nvml::ok;
  if (name == "CNS") return nvml::chipset;
  if (name == "GNS") return nvml::gpu;
  if (name == "TNS") return nvml::io_hub;
  if (name == "DR") return nvml::registry;
  if (name == "NS") return nvml::not_supported;
  return nvml::unknown;
}

}  // namespace collectives
