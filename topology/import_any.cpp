#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/file_descriptor.hpp"
#include "base/require.hpp"
#include "topology/importers.hpp"
#include "topology/json_read.hpp"
#include "topology/p2p_test_text.hpp"
#include "topology/smi_matrix.hpp"
#include "topology/xml_text.hpp"

namespace collectives {
namespace {

constexpr std::string_view utf8_mark = "\xef\xbb\xbf";

std::string read_at_most(const std::string& path, std::size_t limit) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  require(static_cast<bool>(file), [&] { return fmt::format("{}: expected a readable machine file: {}", path, std::strerror(errno)); });
  std::string text;
  char buffer[65536];
  while (text.size() < limit) {
    const auto got = ::read(file.get(), buffer, std::min(sizeof buffer, limit - text.size()));
    if (got < 0 && errno == EINTR) continue;
    require(got >= 0, [&] { return fmt::format("{}: expected a readable machine file: {}", path, std::strerror(errno)); });
    if (got == 0) break;
    text.append(buffer, static_cast<std::size_t>(got));
  }
  return text;
}

Machine read_xml(const SourceText& source) {
  const std::string root = XmlText(source).root().name();
  return root == "topology" ? read_hwloc_xml(source) : read_nccl_xml(source);
}

}  // namespace

Machine read_any(const SourceText& source) {
  std::string_view text = source.text();
  if (text.starts_with(utf8_mark)) text.remove_prefix(utf8_mark.size());
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) source.fail(0, "a description of a machine, found nothing");
  if (text[first] == '{') return read_machine(JsonText(source));
  if (text[first] == '<') return read_xml(source);
  const bool has_matrices = !read_smi_matrices(source).empty(), has_test = is_p2p_test(text);
  if (!has_matrices && has_test) return read_p2p_test(source);
  if (!has_matrices)
    source.fail(first, "a machine file (JSON), XML of NCCL or hwloc, a matrix of nvidia-smi topo or the output of p2pBandwidthLatencyTest");
  Machine machine = read_smi(source);
  if (has_test) overlay_p2p_test(machine, source);
  return machine;
}

Machine machine_from_text(std::string_view text) { return read_any(SourceText(text, "")); }

Machine read_machine_file(const std::string& path) {
  const std::string text = read_at_most(path, max_text_bytes + 1);
  return read_any(SourceText(text, path));
}

void add_measurements(Machine& machine, std::string_view text) {
  Machine measured = machine;
  overlay_p2p_test(measured, SourceText(text, ""));
  machine = std::move(measured);
}

}  // namespace collectives
