#pragma once

#include <optional>
#include <vector>

#include "nccl_shim/abi.hpp"

namespace collectives {

/// What of a communicator's configuration means something here.
struct DropInConfig {
  bool blocking = true;
  int max_ctas = 0;                ///< 0: no limit
  std::optional<NcclConfig> given; ///< as the caller gave it, for the real library

  /// The same for the real library, which is always called where it may block; null if the caller gave none.
  NcclConfig* for_real(NcclConfig& place) const;
};

/// Reads a caller's configuration of any version, by its size. Null gives `otherwise`.
/// Throws Error(invalid_argument) for a structure that was not initialised or a field out of range.
DropInConfig read_config(const NcclConfig* config, const DropInConfig& otherwise = {});

}  // namespace collectives
