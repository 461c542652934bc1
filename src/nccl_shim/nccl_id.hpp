#pragma once

#include <collectives/communicator.hpp>
#include <cstdint>
#include <optional>

#include "nccl_shim/abi.hpp"

namespace collectives {

/// What the 128 bytes of ncclGetUniqueId hold: the id by which ranks of one host meet, which host that is, and the real library's
/// id if ranks of others are to be expected.
struct DropInId {
  UniqueId meeting;
  std::uint64_t host = 0;  ///< 0: there was no room for it
  std::optional<NcclId> real;
};

/// Parts that find no room are left out: the real id first.
NcclId write_nccl_id(const DropInId& id);
/// Throws Error(invalid_argument) for bytes that `write_nccl_id` did not make.
DropInId read_nccl_id(const NcclId& id);

/// The same number in all processes of this machine that have one host name.
std::uint64_t this_host();

}  // namespace collectives
