#include "topology/p2p_test_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "topology/assemble.hpp"
#include "topology/graph.hpp"

namespace collectives {
namespace {

using Figure = P2pTest::Figure;

/// What the heading of a matrix says that it holds; `figures` for any other line.
Figure heading(std::string_view line) {
  const auto has = [line](std::string_view words) { return line.find(words) != std::string_view::npos; };
  if (has("P2P Connectivity Matrix")) return P2pTest::connectivity;
  const bool staged = has("P2P=Disabled");
  if (!staged && !has("P2P=Enabled")) return P2pTest::figures;
  if (has("Latency")) return staged ? P2pTest::latency_staged : P2pTest::latency;
  if (has("Unidirectional") && has("Bandwidth")) return staged ? P2pTest::one_way_staged : P2pTest::one_way;
  if (has("Bidirectional") && has("Bandwidth")) return staged ? P2pTest::both_ways_staged : P2pTest::both_ways;
  return P2pTest::figures;
}

class Parser {
 public:
  explicit Parser(const SourceText& source) : source_(source), reader_(source) {}

  P2pTest read() {
    Figure figure = P2pTest::figures;
    while (const auto line = reader_.next()) {
      if (line->words.empty()) continue;
      const std::string_view first = line->words[0].text;
      if (const Figure found = heading(line->text); found != P2pTest::figures) {
        figure = found;
      } else if (first == "D\\D" || first == "GPU") {
        if (figure == P2pTest::figures)
          source_.fail(line->words[0].offset, "a heading such as 'Unidirectional P2P=Enabled Bandwidth' above a matrix");
        read_matrix(*line, figure);
        figure = P2pTest::figures;
      } else if (first == "Device:") {
        read_device(*line);
      }
    }
    if (test_.gpus == 0) source_.fail(source_.text().size(), "a matrix; the text ends");
    test_.devices.resize(test_.gpus);
    return std::move(test_);
  }

 private:
  /// Device: 0, NVIDIA GeForce RTX 4090, pciBusID: c1, pciDeviceID: 0, pciDomainID:0, the numbers in hexadecimal.
  void read_device(const TableLine& line) {
    const auto number = line.words.size() > 1 ? line.words[1].text : std::string_view();
    const auto place = whole_number(number.substr(0, number.find(',')));
    if (!place || static_cast<std::size_t>(*place) != test_.devices.size())
      source_.fail(line.offset, fmt::format("device {} on this line", test_.devices.size()));
    if (test_.devices.size() == max_described_gpus) source_.fail(line.offset, fmt::format("at most {} GPUs", max_described_gpus));
    const auto bus = hexadecimal(line, "pciBusID:"), device = hexadecimal(line, "pciDeviceID:"), domain = hexadecimal(line, "pciDomainID:");
    const auto begin = line.text.find(", ") + 2, end = line.text.rfind(", pciBusID");
    P2pTest::Device found;
    if (end != std::string_view::npos && begin < end) found.name = line.text.substr(begin, end - begin);
    if (bus && device && *bus <= 0xff && *device <= 0x1f) found.pci = pci_address(domain.value_or(0), *bus, *device, 0);
    for (const P2pTest::Device& other : test_.devices)
      if (!found.pci.empty() && other.pci == found.pci) source_.fail(line.offset, "an address that no device above has");
    test_.devices.push_back(std::move(found));
  }

  static std::optional<std::uint32_t> hexadecimal(const TableLine& line, std::string_view name) {
    const auto at = line.text.find(name);
    if (at == std::string_view::npos) return {};
    std::string_view rest = line.text.substr(at + name.size());
    rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
    std::uint32_t number = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), number, 16);
    if (error != std::errc{}) return {};
    return number;
  }

  void read_matrix(const TableLine& header, Figure figure) {
    const std::size_t gpus = header.words.size() - 1;
    for (std::size_t i = 0; i < gpus; ++i)
      if (whole_number(header.words[i + 1].text) != static_cast<int>(i))
        source_.fail(header.words[i + 1].offset, fmt::format("column {}, found '{}'", i, shown(header.words[i + 1].text)));
    if (gpus == 0 || gpus > max_described_gpus) source_.fail(header.offset, fmt::format("1 to {} GPUs", max_described_gpus));
    if (test_.gpus != 0 && gpus != test_.gpus) source_.fail(header.offset, fmt::format("{} GPUs as above, found {}", test_.gpus, gpus));
    if (!test_.devices.empty() && test_.devices.size() != gpus)
      source_.fail(header.offset, fmt::format("the {} GPUs listed above, found {}", test_.devices.size(), gpus));
    if (!test_.matrices[figure].empty()) source_.fail(header.offset, "each matrix once");
    if (test_.gpus == 0) test_.offset = header.offset;
    test_.gpus = gpus;
    for (std::size_t row = 0; row < gpus; ++row) test_.matrices[figure].push_back(read_row(row));
  }

  std::vector<double> read_row(std::size_t row) {
    const auto wanted = fmt::format("the row of GPU {}", row);
    const TableLine line = reader_.next_row(wanted);
    if (whole_number(line.words[0].text) != static_cast<int>(row))
      source_.fail(line.words[0].offset, fmt::format("{}, found '{}'", wanted, shown(line.words[0].text)));
    if (line.words.size() != test_.gpus + 1)
      source_.fail(line.words[0].offset, fmt::format("{} figures for GPU {}, found {}", test_.gpus, row, line.words.size() - 1));
    std::vector<double> out;
    for (std::size_t i = 1; i < line.words.size(); ++i) {
      const auto number = figure(line.words[i].text);
      if (!number) source_.fail(line.words[i].offset, fmt::format("a number from 0 up, found '{}'", shown(line.words[i].text)));
      out.push_back(*number);
    }
    return out;
  }

  const SourceText& source_;
  TableReader reader_;
  P2pTest test_;
};

double value_at(const P2pTest::Matrix& matrix, std::size_t from, std::size_t to) { return matrix.empty() ? 0 : matrix[from][to]; }

}  // namespace

double P2pTest::gb_per_s(bool staged, std::size_t from, std::size_t to) const {
  const double one = value_at(matrices[staged ? one_way_staged : one_way], from, to);
  return one > 0 ? one : value_at(matrices[staged ? both_ways_staged : both_ways], from, to) / 2;
}

double P2pTest::latency_us(bool staged, std::size_t from, std::size_t to) const {
  return value_at(matrices[staged ? latency_staged : latency], from, to);
}

std::optional<bool> P2pTest::access(std::size_t from, std::size_t to) const {
  if (matrices[connectivity].empty()) return {};
  return matrices[connectivity][from][to] > 0;
}

bool is_p2p_test(std::string_view text) {
  for (const std::string_view heading : {"P2P=Enabled", "P2P=Disabled", "P2P Connectivity Matrix", "D\\D"})
    if (text.find(heading) != std::string_view::npos) return true;
  return false;
}

P2pTest read_p2p_matrices(const SourceText& source) { return Parser(source).read(); }

}  // namespace collectives
