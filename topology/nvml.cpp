#include "topology/nvml.hpp"

#include "topology/library_function.hpp"

namespace collectives {

Nvml open_nvml() {
  Nvml nvml;
  void* library = ::dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library) return nvml;
  find(library, "nvmlInit_v2", nvml.init);
  find(library, "nvmlShutdown", nvml.shutdown);
  find(library, "nvmlSystemGetDriverVersion", nvml.driver_version);
  find(library, "nvmlDeviceGetCount_v2", nvml.count);
  find(library, "nvmlDeviceGetHandleByIndex_v2", nvml.handle);
  find(library, "nvmlDeviceGetName", nvml.name);
  find(library, "nvmlDeviceGetUUID", nvml.uuid);
  find(library, "nvmlDeviceGetPciInfo_v3", nvml.pci);
  find(library, "nvmlDeviceGetCudaComputeCapability", nvml.compute_capability);
  find(library, "nvmlDeviceGetMaxPcieLinkGeneration", nvml.most_generation);
  find(library, "nvmlDeviceGetMaxPcieLinkWidth", nvml.most_width);
  find(library, "nvmlDeviceGetBAR1MemoryInfo", nvml.bar1);
  find(library, "nvmlDeviceGetMigMode", nvml.mig);
  find(library, "nvmlDeviceGetTopologyCommonAncestor", nvml.ancestor);
  find(library, "nvmlDeviceGetP2PStatus", nvml.peer_status);
  find(library, "nvmlDeviceGetFieldValues", nvml.fields);
  find(library, "nvmlDeviceGetNvLinkState", nvml.link_state);
  find(library, "nvmlDeviceGetNvLinkCapability", nvml.link_capability);
  find(library, "nvmlDeviceGetNvLinkVersion", nvml.link_version);
  find(library, "nvmlDeviceGetNvLinkRemoteDeviceType", nvml.link_remote_type);
  find(library, "nvmlDeviceGetNvLinkRemotePciInfo_v2", nvml.link_remote_pci);
  return nvml;
}

}  // namespace collectives
