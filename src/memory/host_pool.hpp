#pragma once

#include <vector>

#include "memory/committed_pool.hpp"
#include "memory/shared_memory.hpp"

namespace collectives {

/// Address space without memory.
class AddressRange {
 public:
  explicit AddressRange(std::size_t bytes);
  ~AddressRange();
  AddressRange(const AddressRange&) = delete;
  AddressRange& operator=(const AddressRange&) = delete;
  std::byte* base() const { return static_cast<std::byte*>(base_); }

 private:
  void* base_ = nullptr;
  std::size_t bytes_ = 0;
};

/// A pool in host memory: a range of addresses with a memory file mapped into it for each commit. The first is what peers get.
class HostPool : public CommittedPool {
 public:
  HostPool(std::size_t bound, std::size_t commit);

  std::byte* base() const override { return range_.base(); }
  PoolTicket ticket() const override;
  FileDescriptor export_descriptor() const override { return duplicate(parts_.front().descriptor()); }
  void grant(int device) override;

 protected:
  HostPool(PoolKind kind, int device, std::size_t bound, std::size_t capacity);
  void back(std::size_t offset, std::size_t bytes) override;
  std::size_t exported_bytes() const { return parts_.front().bytes(); }

 private:
  AddressRange range_;
  std::vector<SharedMemory> parts_;
};

}  // namespace collectives
