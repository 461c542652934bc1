#pragma once

#include <vector>

#include "topology/text_table.hpp"

namespace collectives {

/// A matrix of `nvidia-smi topo`. Columns are GPUs, then network cards; rows are GPUs only.
struct SmiMatrix {
  enum class Kind { unknown, paths, statuses };

  Kind kind = Kind::unknown;  ///< of -m or of -p2p; a single GPU has no cell that tells
  char capability = 0;        ///< the letter behind -p2p in the line above, if the command is there; else 0
  std::size_t offset = 0;     ///< of its header
  std::vector<Word> columns;
  std::vector<int> gpus;                ///< the numbers in their names, ascending
  std::vector<std::vector<Word>> rows;  ///< [GPU][column]
  std::vector<std::string_view> cpus;   ///< by GPU: its CPU affinity, empty if not given
  std::vector<int> numa;                ///< by GPU: its NUMA affinity, -1 if not given
};

/// All matrices of a text, whatever stands between them. Fails at the first that is not whole.
std::vector<SmiMatrix> read_smi_matrices(const SourceText& source);

/// How far apart a cell of a path matrix says two devices are over PCIe; `none` for itself and for NVLink.
enum class SmiDistance { none, one_switch, switches, root, numa, system };
SmiDistance distance_of(std::string_view cell);

}  // namespace collectives
