#pragma once

#include <collectives/topology.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace collectives {

/// Why the driver keeps one GPU from another's memory, in words, and what may be done about it, in one line.
struct Refusal {
  std::string reason;
  std::string remedy;
};

/// What is known of a pair that CUDA refuses: NVML's status of it, if it gave one, and the GPUs themselves.
Refusal refusal_of(std::optional<int> status, const Machine& machine, const Node& from, const Node& to);

/// By the status of NVML alone, see `nvml::Status`.
Refusal refusal_for(int status);

/// The status that nvidia-smi writes as CNS, GNS, TNS, DR, NS or U; `nvml::ok` for OK.
int status_named(std::string_view name);

}  // namespace collectives
