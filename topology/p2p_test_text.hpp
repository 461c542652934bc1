#pragma once

#include <collectives/topology.hpp>
#include <optional>
#include <vector>

#include "topology/text_table.hpp"

namespace collectives {

/// What p2pBandwidthLatencyTest prints. Rows are the sending GPU, columns the receiving; matrices that are not there are empty.
struct P2pTest {
  using Matrix = std::vector<std::vector<double>>;
  enum Figure { connectivity, one_way, one_way_staged, both_ways, both_ways_staged, latency, latency_staged, figures };

  struct Device {
    std::string name, pci;  ///< empty if not printed
  };

  std::size_t offset = 0;  ///< of the first matrix
  std::size_t gpus = 0;
  std::vector<Device> devices;  ///< all of them
  Matrix matrices[figures];

  /// GB/s one way from one GPU to another, with peer access or staged through host memory; 0 if it was not measured. Half of
  /// what was measured both ways at once stands in.
  double gb_per_s(bool staged, std::size_t from, std::size_t to) const;
  double latency_us(bool staged, std::size_t from, std::size_t to) const;
  /// Whether CUDA gave access, as printed; nothing if it is not.
  std::optional<bool> access(std::size_t from, std::size_t to) const;
};

/// Does a text hold one of the test's headings?
bool is_p2p_test(std::string_view text);

/// Fails at the first matrix that is not whole.
P2pTest read_p2p_matrices(const SourceText& source);

}  // namespace collectives
