#pragma once

#include <cstddef>

#include "base/file_descriptor.hpp"

namespace collectives {

/// Memory that processes share: a nameless file (memfd) of fixed size, mapped. It lives as long as a mapping or a descriptor
/// of it does, so a killed process leaves nothing behind.
class SharedMemory {
 public:
  /// `bytes` bytes of zeros, all backed, so that a lack of memory is Error(out_of_memory) here and no SIGBUS later. Sealed: no
  /// holder of the descriptor can change the size. If `at` is given, it is mapped there over
  /// a range that the caller has reserved and unmaps.
  static SharedMemory create(std::size_t bytes, void* at = nullptr);

  /// The same with nothing backed: address space alone, until `back`.
  static SharedMemory reserve(std::size_t bytes);
  /// Backs a part with memory; any holder may. Throws Error(out_of_memory).
  void back(std::size_t offset, std::size_t bytes) const;

  /// Maps what another process created. Throws Error(unsupported) unless the file is sealed and has exactly `bytes` bytes.
  static SharedMemory map(const FileDescriptor& descriptor, std::size_t bytes);

  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&& other) noexcept;
  ~SharedMemory();

  std::byte* base() const { return static_cast<std::byte*>(base_); }
  std::size_t bytes() const { return bytes_; }
  const FileDescriptor& descriptor() const { return descriptor_; }

 private:
  SharedMemory(FileDescriptor descriptor, std::size_t bytes, void* at);

  FileDescriptor descriptor_;
  void* base_ = nullptr;
  std::size_t bytes_ = 0;
  bool owns_range_ = true;
};

/// Bytes that can be had without swapping: Linux's own estimate, which counts the page cache, unlike sysconf.
std::size_t available_host_memory();

/// A descriptor of the same file, closed on exec.
FileDescriptor duplicate(const FileDescriptor& descriptor);

}  // namespace collectives
