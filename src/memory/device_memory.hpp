#pragma once

#include <cstddef>

namespace collectives {

/// Makes the primary context of `device` exist: driver functions need it, the runtime makes it on its first use.
void ensure_context(int device);

/// Fills with zeros and waits until that is done. On a stream of its own, so that no other stream waits.
void zero_device_memory(int device, std::byte* base, std::size_t bytes);

/// Throws Error(unsupported) that names the two unless kernels of `from` may reach the memory of `to`.
void require_peer_access(int from, int to);

}  // namespace collectives
