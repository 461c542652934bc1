#include <fmt/format.h>

#include "topology/assemble.hpp"
#include "topology/chips.hpp"
#include "topology/importers.hpp"
#include "topology/nvml.hpp"
#include "topology/priors.hpp"
#include "topology/refusals.hpp"
#include "topology/smi_tree.hpp"

namespace collectives {
namespace {

void add_gpus(Machine& machine, const SmiMatrix& matrix) {
  for (const int number : matrix.gpus) {
    Node node;
    node.name = fmt::format("GPU {}", number);
    node.device = number;
    add_node(machine, std::move(node));
  }
}

/// Names and UUIDs, where lines such as nvidia-smi -L prints are among the text: "GPU 0: NVIDIA H200 (UUID: GPU-...)".
void name_gpus(Machine& machine, const SourceText& source) {
  TableReader reader(source);
  while (const auto line = reader.next()) {
    if (!line->text.starts_with("GPU ") || line->words.size() < 3 || !line->words[1].text.ends_with(":")) continue;
    const std::string_view digits = line->words[1].text;
    const auto number = whole_number(digits.substr(0, digits.size() - 1));
    const auto begin = line->words[2].offset - line->offset, bracket = line->text.find(" (UUID: ");
    for (Node& node : machine.nodes) {
      if (!number || node.device != *number) continue;
      node.name = line->text.substr(begin, bracket < begin ? 0 : bracket - begin);
      node.compute_capability = chip_named(node.name);
      if (const auto end = line->text.rfind(')'); bracket != std::string_view::npos && end != std::string_view::npos && end > bracket + 8)
        node.uuid = line->text.substr(bracket + 8, end - bracket - 8);
    }
  }
}

/// Peers in the order of a matrix, row by row.
void add_peers(Machine& machine, const SmiMatrix* paths) {
  const int gpus = static_cast<int>(machine.gpus().size());
  for (int from = 0; from < gpus; ++from)
    for (int to = 0; to < gpus; ++to) {
      if (from == to) continue;
      Peer peer;
      peer.from = from;
      peer.to = to;
      peer.access = true;
      if (paths) peer.path = paths->rows[static_cast<std::size_t>(from)][static_cast<std::size_t>(to)].text;
      peer.native_atomics = nvlinks_of(peer.path) > 0;
      machine.peers.push_back(std::move(peer));
    }
}

/// One -p2p matrix. Reads, writes and PCIe decide on access, `a` on atomics; `n` speaks of NVLink alone, so its refusals leave
/// PCIe open.
void apply(Machine& machine, const SmiMatrix& matrix) {
  for (Peer& peer : machine.peers) {
    const int status = status_named(matrix.rows[static_cast<std::size_t>(peer.from)][static_cast<std::size_t>(peer.to)].text);
    if (matrix.capability == 'a') {
      peer.native_atomics = status == nvml::ok;
    } else if (matrix.capability != 'n' && status != nvml::ok) {
      const Refusal refusal = refusal_for(status);
      peer.access = false;
      peer.native_atomics = false;
      peer.reason = refusal.reason;
      peer.remedy = refusal.remedy;
    }
  }
}

}  // namespace

Machine read_smi(const SourceText& source) {
  const auto matrices = read_smi_matrices(source);
  if (matrices.empty()) source.fail(0, "a matrix of nvidia-smi topo, whose header begins with GPU0");
  const SmiMatrix* paths = nullptr;
  for (const SmiMatrix& matrix : matrices) {
    if (matrix.gpus != matrices[0].gpus) source.fail(matrix.offset, "the same GPUs in every matrix");
    if (matrix.kind == SmiMatrix::Kind::statuses) continue;
    if (paths) source.fail(matrix.offset, "one matrix of paths only");
    paths = &matrix;
  }
  Machine machine;
  add_gpus(machine, matrices[0]);
  name_gpus(machine, source);
  if (paths)
    add_tree(machine, *paths);
  else
    add_plain_tree(machine);
  add_peers(machine, paths);
  for (const SmiMatrix& matrix : matrices)
    if (matrix.kind == SmiMatrix::Kind::statuses) apply(machine, matrix);
  complete_rates(machine);
  check_consistent(machine, source, matrices[0].offset);
  return machine;
}

}  // namespace collectives
