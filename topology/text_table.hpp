#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "topology/source_text.hpp"

namespace collectives {

/// A word of a table and where it stands in the whole text.
struct Word {
  std::string_view text;
  std::size_t offset = 0;
};

/// A line as words: white space and a terminal's escape sequences stand between them. No more than `max_words_in_line` are
/// kept, so that no line takes much memory.
struct TableLine {
  std::string_view text;
  std::size_t offset = 0;
  std::vector<Word> words;
};

inline constexpr std::size_t max_words_in_line = 256;

/// The lines of a text one after the other.
class TableReader {
 public:
  explicit TableReader(const SourceText& source) : source_(source) {}

  const SourceText& source() const { return source_; }

  /// The next line, or nothing at the end.
  std::optional<TableLine> next();
  /// The next line with a word in it; fails at the end of the text if there is none.
  TableLine next_row(std::string_view expected);
  /// Where the next line begins.
  std::size_t offset() const { return offset_; }

 private:
  const SourceText& source_;
  std::size_t offset_ = 0;
};

/// The number that the whole of a word is, if it is one. Names such as GPU12 are split by `number_behind`.
std::optional<int> whole_number(std::string_view text);
std::optional<double> figure(std::string_view text);
std::optional<int> number_behind(std::string_view prefix, std::string_view text);

}  // namespace collectives
