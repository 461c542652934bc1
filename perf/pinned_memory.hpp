#pragma once

#include <cstddef>

namespace perf {

/// Memory of the host that all GPUs of this process reach, made as the library makes it: a nameless file, mapped and registered. Zeros at first.
class PinnedMemory {
 public:
  /// Throws Error(out_of_memory), or Error(device).
  explicit PinnedMemory(std::size_t bytes);
  ~PinnedMemory();
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;
  std::byte* base() const { return static_cast<std::byte*>(base_); }

 private:
  void* base_ = nullptr;
  std::size_t bytes_;
};

}  // namespace perf
