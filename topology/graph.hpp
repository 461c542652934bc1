#pragma once

#include <collectives/topology.hpp>
#include <cstdint>
#include <optional>
#include <string>

namespace collectives {

inline constexpr std::size_t max_nodes = 4096;
inline constexpr std::size_t max_links = 65536;
inline constexpr std::size_t max_peers = 65536;

/// What is wrong with a machine and where: which list, and the index in it.
struct Fault {
  enum class List : std::uint8_t { nodes, links, peers };
  List list = List::nodes;
  std::size_t index = 0;
  std::string message;
};

/// The first fault in the order nodes, links, peers, if there is one.
std::optional<Fault> find_fault(const Machine& machine);

/// A PCI address as /sys writes it, such as 0000:01:00.0: lower case, the domain at least four digits and up to 32 bits.
std::string pci_address(std::uint32_t domain, std::uint32_t bus, std::uint32_t device, std::uint32_t function);
bool is_pci_address(std::string_view text);

/// The machine's NUMA node with this number, by index, or -1.
int numa_node(const Machine& machine, int number);

}  // namespace collectives
