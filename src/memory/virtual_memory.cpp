#include "memory/virtual_memory.hpp"

#include <fcntl.h>

#include <utility>

#include "base/cuda.hpp"
#include "base/require.hpp"
#include "memory/rollback.hpp"

namespace collectives {
namespace {

template <typename Function>
void look_up(Function& function, const char* name) {
  function = reinterpret_cast<Function>(driver_entry(name));
}

VirtualMemoryDriver look_up_all() {
  VirtualMemoryDriver driver{};
  look_up(driver.address_reserve, "cuMemAddressReserve");
  look_up(driver.address_free, "cuMemAddressFree");
  look_up(driver.create, "cuMemCreate");
  look_up(driver.release, "cuMemRelease");
  look_up(driver.map, "cuMemMap");
  look_up(driver.unmap, "cuMemUnmap");
  look_up(driver.set_access, "cuMemSetAccess");
  look_up(driver.granularity, "cuMemGetAllocationGranularity");
  look_up(driver.export_handle, "cuMemExportToShareableHandle");
  look_up(driver.import_handle, "cuMemImportFromShareableHandle");
  look_up(driver.properties, "cuMemGetAllocationPropertiesFromHandle");
  look_up(driver.attribute, "cuDeviceGetAttribute");
  return driver;
}

}  // namespace

const VirtualMemoryDriver& virtual_memory_driver() {
  static const VirtualMemoryDriver driver = look_up_all();
  return driver;
}

CUmemAllocationProp exportable_memory_of(int device) {
  CUmemAllocationProp properties{};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
  properties.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = device};
  return properties;
}

std::size_t granularity_of(int device) {
  const CUmemAllocationProp properties = exportable_memory_of(device);
  std::size_t bytes = 0;
  cuda_check(virtual_memory_driver().granularity(&bytes, &properties, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
  return bytes;
}

DeviceRange::DeviceRange(std::size_t bytes) : bytes_(bytes) { cuda_check(virtual_memory_driver().address_reserve(&base_, bytes, 0, 0, 0)); }

// Errors do not count when letting go: a process that is leaving may have lost its driver already.
DeviceRange::~DeviceRange() { (void)virtual_memory_driver().address_free(base_, bytes_); }

MappedMemory::MappedMemory(CUmemGenericAllocationHandle handle, CUdeviceptr at, std::size_t bytes)
    : handle_(handle), at_(at), bytes_(bytes) {
  Rollback rollback([&] { (void)virtual_memory_driver().release(handle); });
  // The driver refuses more bytes than the memory has.
  cuda_check(virtual_memory_driver().map(at, bytes, 0, handle, 0));
  rollback.dismiss();
  held_ = true;
}

MappedMemory MappedMemory::create(int device, CUdeviceptr at, std::size_t bytes) {
  const CUmemAllocationProp properties = exportable_memory_of(device);
  CUmemGenericAllocationHandle handle = 0;
  cuda_check(virtual_memory_driver().create(&handle, bytes, &properties, 0));
  return MappedMemory(handle, at, bytes);
}

MappedMemory MappedMemory::import(const FileDescriptor& descriptor, CUdeviceptr at, std::size_t bytes) {
  const auto& driver = virtual_memory_driver();
  CUmemGenericAllocationHandle handle = 0;
  // The interface passes the descriptor itself as a pointer; it stays the caller's.
  auto* const number = reinterpret_cast<void*>(static_cast<std::uintptr_t>(descriptor.get()));
  cuda_check(driver.import_handle(&handle, number, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
  CUmemAllocationProp properties{};
  Rollback rollback([&] { (void)driver.release(handle); });
  cuda_check(driver.properties(&properties, handle));
  require(properties.location.type == CU_MEM_LOCATION_TYPE_DEVICE, "a peer's pool is not in a GPU's memory", ErrorCode::unsupported);
  rollback.dismiss();
  return MappedMemory(handle, at, bytes);
}

MappedMemory::MappedMemory(MappedMemory&& other) noexcept
    : handle_(other.handle_), at_(other.at_), bytes_(other.bytes_), held_(std::exchange(other.held_, false)) {}

MappedMemory::~MappedMemory() {
  if (!held_) return;
  (void)virtual_memory_driver().unmap(at_, bytes_);
  (void)virtual_memory_driver().release(handle_);
}

void MappedMemory::allow(int device) const {
  const CUmemAccessDesc access{.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = device},
                               .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
  cuda_check(virtual_memory_driver().set_access(at_, bytes_, &access, 1));
}

FileDescriptor MappedMemory::export_descriptor() const {
  int fd = -1;
  cuda_check(virtual_memory_driver().export_handle(&fd, handle_, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
  FileDescriptor descriptor(fd);
  system_check(::fcntl(fd, F_SETFD, FD_CLOEXEC), "closing a GPU memory descriptor on exec");
  return descriptor;
}

}  // namespace collectives
