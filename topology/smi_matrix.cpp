#include "topology/smi_matrix.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "topology/assemble.hpp"
#include "topology/priors.hpp"

namespace collectives {
namespace {

constexpr std::string_view paths[] = {"PIX", "PXB", "PHB", "NODE", "SYS"};
constexpr std::string_view statuses[] = {"OK", "CNS", "GNS", "TNS", "DR", "NS", "U"};

/// One of paths, and one of each capability.
constexpr std::size_t most_matrices = 16;

template <typename Names>
bool is_one_of(const Names& names, std::string_view text) {
  return std::find(std::begin(names), std::end(names), text) != std::end(names);
}

bool is_path(std::string_view cell) { return is_one_of(paths, cell) || nvlinks_of(cell) > 0; }

/// A header names GPU0 and then another device or the affinities; a row puts a cell behind its name.
bool is_header(const TableLine& line) {
  if (line.words.empty() || !number_behind("GPU", line.words[0].text)) return false;
  if (line.words.size() == 1) return true;
  const std::string_view second = line.words[1].text;
  return second == "CPU" || number_behind("GPU", second) || number_behind("NIC", second) || second.starts_with("mlx");
}

/// Reads one matrix, whose header has been read.
class MatrixReader {
  using Kind = SmiMatrix::Kind;

 public:
  MatrixReader(TableReader& reader, const TableLine& header) : reader_(reader), source_(reader.source()) {
    matrix_.offset = header.words[0].offset;
    for (const Word& word : header.words) {
      if (word.text == "CPU" || word.text == "NUMA") break;
      add_column(word);
    }
    for (const Word& word : header.words) affinities_ += word.text == "Affinity" || word.text == "ID";
    if (header.words.size() >= max_words_in_line) source_.fail(header.offset, "fewer columns");
  }

  SmiMatrix read() {
    for (std::size_t gpu = 0; gpu < matrix_.gpus.size(); ++gpu) read_row(gpu);
    return std::move(matrix_);
  }

 private:
  void add_column(const Word& word) {
    if (const auto number = number_behind("GPU", word.text)) {
      const bool ascends = matrix_.gpus.empty() || matrix_.gpus.back() < *number;
      if (!ascends || matrix_.gpus.size() != matrix_.columns.size())
        source_.fail(word.offset, "GPUs in ascending order, before other columns");
      if (matrix_.gpus.size() == max_described_gpus) source_.fail(word.offset, fmt::format("at most {} GPUs", max_described_gpus));
      matrix_.gpus.push_back(*number);
    }
    matrix_.columns.push_back(word);
  }

  void read_row(std::size_t gpu) {
    const std::string_view name = matrix_.columns[gpu].text;
    const auto wanted = fmt::format("a row for {}", name);
    const TableLine line = reader_.next_row(wanted);
    if (line.words[0].text != name) source_.fail(line.words[0].offset, fmt::format("{}, found '{}'", wanted, shown(line.words[0].text)));
    const std::size_t cells = matrix_.columns.size();
    if (line.words.size() <= cells)
      source_.fail(line.offset + line.text.size(), fmt::format("{} cells in the row for {}, found {}", cells, name, line.words.size() - 1));
    std::vector<Word> row(line.words.begin() + 1, line.words.begin() + 1 + static_cast<std::ptrdiff_t>(cells));
    for (std::size_t column = 0; column < cells; ++column) check(row[column], column == gpu);
    matrix_.rows.push_back(std::move(row));
    read_affinities({line.words.begin() + 1 + static_cast<std::ptrdiff_t>(cells), line.words.end()});
  }

  /// The first cell that is not X decides whether this is a matrix of paths or of statuses.
  void check(const Word& cell, bool itself) {
    const bool path = is_path(cell.text);
    const bool status = is_one_of(statuses, cell.text);
    if (itself ? cell.text == "X" : path ? matrix_.kind != Kind::statuses : status && matrix_.kind != Kind::paths) {
      if (!itself) matrix_.kind = path ? Kind::paths : Kind::statuses;
      return;
    }
    constexpr std::string_view some_path = "NV and a number, PIX, PXB, PHB, NODE or SYS", some_status = "a status such as OK or CNS";
    const auto expected = itself                          ? std::string("X")
                          : matrix_.kind == Kind::unknown ? fmt::format("{}, or {}", some_path, some_status)
                          : matrix_.kind == Kind::paths   ? std::string(some_path)
                                                          : std::string(some_status);
    source_.fail(cell.offset, fmt::format("{}, found '{}'", expected, shown(cell.text)));
  }

  /// nvidia-smi leaves some blank on some machines, which cannot be told from padding: of a row that has too few, only what
  /// looks like a list of CPUs is taken.
  void read_affinities(const std::vector<Word>& words) {
    const bool whole = words.size() == affinities_;
    const auto is_list = [](std::string_view text) { return text.find_first_of("-,") != std::string_view::npos; };
    const bool has_cpus = !words.empty() && words[0].text != "N/A" && (whole || is_list(words[0].text));
    matrix_.cpus.push_back(has_cpus ? words[0].text : std::string_view());
    matrix_.numa.push_back(whole && words.size() > 1 ? std::max(-1, whole_number(words[1].text).value_or(-1)) : -1);
  }

  TableReader& reader_;
  const SourceText& source_;
  SmiMatrix matrix_;
  std::size_t affinities_ = 0;
};

/// The letter of a command such as `nvidia-smi topo -p2p r`; 0 for other lines.
char capability_in(const TableLine& line) {
  for (std::size_t i = 0; i + 1 < line.words.size(); ++i)
    if (line.words[i].text == "-p2p" && line.words[i + 1].text.size() <= 2) return line.words[i + 1].text[0];
  return 0;
}

}  // namespace

std::vector<SmiMatrix> read_smi_matrices(const SourceText& source) {
  TableReader reader(source);
  std::vector<SmiMatrix> matrices;
  char capability = 0;
  while (const auto line = reader.next()) {
    if (const char letter = capability_in(*line)) capability = letter;
    if (!is_header(*line)) continue;
    if (matrices.size() == most_matrices) source.fail(line->offset, fmt::format("at most {} matrices", most_matrices));
    matrices.push_back(MatrixReader(reader, *line).read());
    matrices.back().capability = std::exchange(capability, 0);
  }
  return matrices;
}

SmiDistance distance_of(std::string_view cell) {
  for (std::size_t i = 0; i < std::size(paths); ++i)
    if (cell == paths[i]) return static_cast<SmiDistance>(i + 1);
  return SmiDistance::none;
}

}  // namespace collectives
