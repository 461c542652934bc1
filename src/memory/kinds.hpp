#pragma once

#include <memory>

#include "memory/pool.hpp"

namespace collectives {

// The kinds of pools behind make_pool and map_peer, which have checked the arguments.

std::unique_ptr<Pool> make_host_pool(std::size_t bound, std::size_t commit);
std::unique_ptr<PeerMapping> map_host_peer(const PoolTicket& ticket, const FileDescriptor& descriptor);

// Of the CUDA backend.
std::unique_ptr<Pool> make_pinned_pool(int device, std::size_t bound, std::size_t commit);
std::unique_ptr<PeerMapping> map_pinned_peer(const PoolTicket& ticket, const FileDescriptor& descriptor, int device);
std::unique_ptr<Pool> make_device_pool(int device, std::size_t bound, std::size_t commit);
std::unique_ptr<PeerMapping> map_device_peer(const PoolTicket& ticket, const FileDescriptor& descriptor, int device);
std::unique_ptr<Pool> make_legacy_pool(int device, std::size_t bound, std::size_t commit);
std::unique_ptr<PeerMapping> map_legacy_peer(const PoolTicket& ticket, int device);

/// Does the driver offer virtual memory that can be exported as a file descriptor on `device`?
bool has_exportable_virtual_memory(int device);

}  // namespace collectives
