#pragma once

#include <collectives/topology.hpp>
#include <span>

namespace collectives {

/// The names of an enumeration in the order of its values, as machine files write them.
inline std::span<const char* const> names_of(NodeKind) {
  static constexpr const char* names[] = {"gpu", "cpu", "pci_switch", "host_bridge", "nvswitch"};
  return names;
}

inline std::span<const char* const> names_of(LinkKind) {
  static constexpr const char* names[] = {"nvlink", "pcie", "socket", "memory"};
  return names;
}

inline std::span<const char* const> names_of(Evidence) {
  static constexpr const char* names[] = {"claimed", "measured", "verified"};
  return names;
}

template <typename Enum>
bool is_known(Enum value) {
  return static_cast<std::size_t>(value) < names_of(value).size();
}

}  // namespace collectives
