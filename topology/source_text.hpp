#pragma once

#include <string>
#include <string_view>

namespace collectives {

/// No description of a machine is longer than this; a file is not read further.
inline constexpr std::size_t max_text_bytes = 16u << 20;

/// A text that describes a machine, and what to call it in complaints: a path, or nothing. Keeps a view of the text.
class SourceText {
 public:
  /// Throws Error(invalid_argument) for a text that is too long or holds a zero byte, before anything looks at it.
  SourceText(std::string_view text, std::string name);

  std::string_view text() const { return text_; }

  /// Throws Error(invalid_argument): name, line and column of the byte at `offset`, and what was expected there.
  [[noreturn]] void fail(std::size_t offset, std::string_view expected) const;

 private:
  std::string_view text_;
  std::string name_;
};

/// As much of a text from outside as a message should repeat, without what could steer a terminal.
std::string shown(std::string_view text);

}  // namespace collectives
