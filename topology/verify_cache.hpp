#pragma once

#include <collectives/verify.hpp>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "topology/cache_file.hpp"

namespace collectives {

/// What must be the same for an earlier verdict to hold: driver, firmware, IOMMU, the PCI tree and the GPUs in it. GPUs go by
/// their uuids: CUDA's ordinals are no part of it, since CUDA_VISIBLE_DEVICES changes them. `root` holds sys/.
std::string identity_of(const Machine& machine, const std::filesystem::path& root = "/");

/// What a GPU is called across processes; empty if nothing lasting is known of it.
std::string lasting_name(const Machine& machine, int device);

/// Verdicts about GPUs of `machine` as ordinals of it. Nothing, and a line in the log unless there is no file, for a file that is
/// another's, that others may write, too old, for another identity or broken.
std::optional<Verification> read_verdicts(const std::filesystem::path& file, const Machine& machine, const std::string& identity,
                                          std::int64_t now_s);
/// Atomically, for its owner alone. Throws Error(system).
void write_verdicts(const std::filesystem::path& file, const Machine& machine, const std::string& identity, std::int64_t now_s,
                    const Verification& verification);

}  // namespace collectives
