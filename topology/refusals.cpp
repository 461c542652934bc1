#include "topology/refusals.hpp"

#include <fmt/format.h>

#include "topology/nvml.hpp"

namespace collectives {

Refusal refusal_for(int status) {
  switch (status) {
    case nvml::chipset:
      return {"the driver does not allow it on this chipset, as in most virtual machines",
              "in a virtual machine, ask its host to pass through the GPUs with a common peer-to-peer clique; else move both below one "
              "PCIe switch"};
    case nvml::gpu:
      return {"the driver does not allow it for this kind of GPU",
              "nothing with NVIDIA's own driver, which keeps PCIe peer access from GeForce cards; an NVLink bridge works where the card has one"};
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

Refusal refusal_of(std::optional<int> status, const Machine& machine, const Node& from, const Node& to) {
  if (from.device < 0 || to.device < 0)
    return {"CUDA cannot see one of them", "name both in CUDA_VISIBLE_DEVICES or unset it; in a container, pass both in"};
  if (from.mig || to.mig)
    return {"one of them is partitioned by MIG, and partitions have no peers", "switch MIG off: nvidia-smi -mig 0 on both, as root"};
  const bool refused = status && *status != nvml::ok;
  const bool different = from.compute_capability != to.compute_capability;
  if (different && (!refused || *status == nvml::not_supported))
    return {"they have different chips, and the driver pairs only equal ones over PCIe",
            "form groups of GPUs of one chip; groups meet in host memory"};
  if (refused && *status == nvml::chipset && !machine.hypervisor.empty())
    return {fmt::format("the driver does not allow it on the chipset of this virtual machine ({})", machine.hypervisor),
            "ask the host to put both GPUs into one peer-to-peer clique (x-nv-gpudirect-clique), or run on bare metal"};
  if (refused) return refusal_for(*status);
  for (const Node* gpu : {&from, &to})
    if (gpu->bar1_bytes > 0 && gpu->bar1_bytes < gpu->memory_bytes / 2)
      return {fmt::format("CUDA refuses; a window of {} MiB shows little of a GPU's memory to the other", gpu->bar1_bytes >> 20),
              "switch on Resizable BAR and Above 4G Decoding in the firmware's settings"};
  if (!status) return {"CUDA refuses", "see whether nvidia-smi topo -p2p r says why"};
  return {"CUDA refuses although NVML reports it as possible", "look for NVRM lines in the kernel's log (dmesg), and update the driver"};
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
