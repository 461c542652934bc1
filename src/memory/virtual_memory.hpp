#pragma once

#include <cuda.h>

#include <cstddef>

#include "base/file_descriptor.hpp"

namespace collectives {

/// The driver's virtual-memory functions. Looked up, not linked: this library loads where there is no driver.
struct VirtualMemoryDriver {
  decltype(&cuMemAddressReserve) address_reserve;
  decltype(&cuMemAddressFree) address_free;
  decltype(&cuMemCreate) create;
  decltype(&cuMemRelease) release;
  decltype(&cuMemMap) map;
  decltype(&cuMemUnmap) unmap;
  decltype(&cuMemSetAccess) set_access;
  decltype(&cuMemGetAllocationGranularity) granularity;
  decltype(&cuMemExportToShareableHandle) export_handle;
  decltype(&cuMemImportFromShareableHandle) import_handle;
  decltype(&cuMemGetAllocationPropertiesFromHandle) properties;
  decltype(&cuDeviceGetAttribute) attribute;
};

/// Throws Error(unsupported) if the driver lacks one.
const VirtualMemoryDriver& virtual_memory_driver();

/// Memory of `device` that can be exported as a file descriptor.
CUmemAllocationProp exportable_memory_of(int device);

/// What sizes of such memory must be multiples of.
std::size_t granularity_of(int device);

/// Device addresses without memory.
class DeviceRange {
 public:
  explicit DeviceRange(std::size_t bytes);
  ~DeviceRange();
  DeviceRange(const DeviceRange&) = delete;
  DeviceRange& operator=(const DeviceRange&) = delete;
  CUdeviceptr base() const { return base_; }

 private:
  CUdeviceptr base_ = 0;
  std::size_t bytes_;
};

/// A piece of physical memory, mapped. It goes when its last holder in any process has let go.
class MappedMemory {
 public:
  /// Fresh memory of `device`.
  static MappedMemory create(int device, CUdeviceptr at, std::size_t bytes);
  /// What another process exported. Throws Error(unsupported) if it is no device memory.
  static MappedMemory import(const FileDescriptor& descriptor, CUdeviceptr at, std::size_t bytes);

  MappedMemory(MappedMemory&& other) noexcept;
  MappedMemory& operator=(MappedMemory&&) = delete;
  ~MappedMemory();

  /// Lets kernels of `device` read and write here.
  void allow(int device) const;
  FileDescriptor export_descriptor() const;
  std::size_t bytes() const { return bytes_; }

 private:
  MappedMemory(CUmemGenericAllocationHandle handle, CUdeviceptr at, std::size_t bytes);

  CUmemGenericAllocationHandle handle_ = 0;
  CUdeviceptr at_ = 0;
  std::size_t bytes_ = 0;
  bool held_ = false;
};

}  // namespace collectives
