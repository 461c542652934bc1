#pragma once

#include <collectives/verify.hpp>
#include <vector>

namespace collectives {

/// Two flows between four GPUs that, by the graph, may share something on their way: links of PCIe or between sockets, or a
/// switch. `predicted` is what fair shares would give both together, from the rate of each alone and of what they share.
/// At most `most_flows`, always the same ones, for stores and loads whose rates are known.
std::vector<FlowVerdict> flows_to_try(const Machine& machine, const Verification& verification);
inline constexpr std::size_t most_flows = 48;

}  // namespace collectives
