#pragma once

#include <collectives/topology.hpp>
#include <cstddef>

namespace collectives {

/// NVML as this library calls it: declared here, since its header is not needed to run and not there to build everywhere.
/// Layouts and numbers are NVIDIA's binary interface. Results are 0 for success.
namespace nvml {

struct DeviceRecord;
using Device = DeviceRecord*;

struct PciInfo {
  char bus_id_legacy[16];
  unsigned domain, bus, device;
  unsigned device_and_vendor, subsystem;
  char bus_id[32];
};
static_assert(sizeof(PciInfo) == 68);

struct FieldValue {
  unsigned field, scope;
  long long timestamp, latency;
  int type, result;
  union {
    unsigned number;
    double real;
  } value;
};
static_assert(sizeof(FieldValue) == 40 && offsetof(FieldValue, value) == 32);

struct Bar1Memory {
  unsigned long long total, free, used;
};

inline constexpr unsigned most_links = 18;
inline constexpr unsigned field_link_state = 165;
inline constexpr unsigned capability_peer_to_peer = 0;
enum RemoteType : int { remote_gpu = 0, remote_power_cpu = 1, remote_switch = 2, remote_unknown = 255 };
enum Ancestor : int { internal = 0, single = 10, multiple = 20, host_bridge = 30, node = 40, system = 50 };
enum Capability : int { read = 0, write = 1, nvlink = 2 };
enum Status : int { ok, chipset, gpu, io_hub, registry, not_supported, unknown };

}  // namespace nvml

/// The functions, null where this driver has none. A plain table, so that tests can stand in for a driver.
struct Nvml {
  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  int (*driver_version)(char*, unsigned) = nullptr;
  int (*count)(unsigned*) = nullptr;
  int (*handle)(unsigned, nvml::Device*) = nullptr;
  int (*name)(nvml::Device, char*, unsigned) = nullptr;
  int (*uuid)(nvml::Device, char*, unsigned) = nullptr;
  int (*pci)(nvml::Device, nvml::PciInfo*) = nullptr;
  int (*compute_capability)(nvml::Device, int*, int*) = nullptr;
  int (*most_generation)(nvml::Device, unsigned*) = nullptr;
  int (*most_width)(nvml::Device, unsigned*) = nullptr;
  int (*bar1)(nvml::Device, nvml::Bar1Memory*) = nullptr;
  int (*mig)(nvml::Device, unsigned*, unsigned*) = nullptr;
  int (*ancestor)(nvml::Device, nvml::Device, int*) = nullptr;
  int (*peer_status)(nvml::Device, nvml::Device, int, int*) = nullptr;
  int (*fields)(nvml::Device, int, nvml::FieldValue*) = nullptr;
  int (*link_state)(nvml::Device, unsigned, unsigned*) = nullptr;
  int (*link_capability)(nvml::Device, unsigned, unsigned, unsigned*) = nullptr;
  int (*link_version)(nvml::Device, unsigned, unsigned*) = nullptr;
  int (*link_remote_type)(nvml::Device, unsigned, int*) = nullptr;
  int (*link_remote_pci)(nvml::Device, unsigned, nvml::PciInfo*) = nullptr;
};

/// The driver's own library, opened at run time; all null without one. It stays open: drivers do not expect to be closed.
Nvml open_nvml();

/// What NVML knows of the GPUs in `machine`, found by PCI address or else by UUID, never by NVML's own index, and the GPUs
/// that CUDA cannot see.
void read_nvml(const Nvml& nvml, Machine& machine);

}  // namespace collectives
