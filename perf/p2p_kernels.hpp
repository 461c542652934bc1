#pragma once

#include <collectives/types.hpp>
#include <cstddef>
#include <cstdint>

namespace perf {

/// A copy by the multiprocessors of the current device, 16 bytes a lane. Stores to a peer if `to` is the peer's memory, loads
/// from it if `from` is. `passes` times over the same memory.
struct CopyArgs {
  void* to = nullptr;
  const void* from = nullptr;
  std::size_t packs = 0;  ///< of 16 bytes
  int passes = 1;
};

/// One of two kernels that answer each other: the one that `serves` stores 1, waits for 1, stores 2, waits for 2, ...; the
/// other waits first.
struct PingPongArgs {
  std::uint32_t* theirs = nullptr;  ///< the partner's flag, stored to
  std::uint32_t* mine = nullptr;    ///< this GPU's flag, polled
  std::uint32_t rounds = 0;
  bool serves = false;
  std::uint32_t max_spins = 0;       ///< of one wait; then both give up
  std::uint32_t* gave_up = nullptr;  ///< on this GPU
};

/// On `stream` of the current device. Return the launch's cudaError_t.
int launch_copy(const CopyArgs& args, int blocks, collectives::Stream stream);
int launch_ping_pong(const PingPongArgs& args, collectives::Stream stream);

/// Loads both kernels on the current device: a first launch may wait for kernels that run, which here wait for it.
int load_p2p_kernels();

}  // namespace perf
