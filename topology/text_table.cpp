#include "topology/text_table.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace collectives {
namespace {

constexpr char escape = '\x1b';
constexpr std::string_view white_space = " \t\r\f\v";

/// Just past an escape sequence that begins at `at`: ESC, '[', parameters, one final byte from '@' up.
std::size_t end_of_escape(std::string_view line, std::size_t at) {
  if (++at == line.size() || line[at] != '[') return at;
  for (++at; at < line.size(); ++at)
    if (line[at] >= '@') return at + 1;
  return at;
}

std::vector<Word> words_of(std::string_view line, std::size_t offset) {
  std::vector<Word> words;
  std::size_t at = 0;
  while (at < line.size() && words.size() < max_words_in_line) {
    if (line[at] == escape) {
      at = end_of_escape(line, at);
    } else if (white_space.find(line[at]) != std::string_view::npos) {
      ++at;
    } else {
      const std::size_t end = std::min(line.find_first_of(" \t\r\f\v\x1b", at), line.size());
      words.push_back({line.substr(at, end - at), offset + at});
      at = end;
    }
  }
  return words;
}

template <typename Number>
std::optional<Number> parsed(std::string_view text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return {};
  return number;
}

}  // namespace

std::optional<TableLine> TableReader::next() {
  const std::string_view text = source_.text();
  if (offset_ >= text.size()) return {};
  const std::size_t end = std::min(text.find('\n', offset_), text.size());
  TableLine line;
  line.offset = offset_;
  line.text = text.substr(offset_, end - offset_);
  line.words = words_of(line.text, offset_);
  offset_ = end + 1;
  return line;
}

TableLine TableReader::next_row(std::string_view expected) {
  while (auto line = next())
    if (!line->words.empty()) return std::move(*line);
  source_.fail(source_.text().size(), std::string(expected) + "; the text ends");
}

std::optional<int> whole_number(std::string_view text) { return parsed<int>(text); }

std::optional<double> figure(std::string_view text) {
  const auto number = parsed<double>(text);
  return number && std::isfinite(*number) && *number >= 0 ? number : std::nullopt;
}

std::optional<int> number_behind(std::string_view prefix, std::string_view text) {
  if (!text.starts_with(prefix)) return {};
  const auto number = whole_number(text.substr(prefix.size()));
  return number && *number >= 0 ? number : std::nullopt;
}

}  // namespace collectives
