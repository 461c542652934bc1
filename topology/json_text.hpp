#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace collectives {

inline constexpr std::size_t max_json_bytes = 16u << 20;
inline constexpr int max_json_depth = 64;

/// A JSON text that is small and shallow enough to parse, with the place of every key and value in it. The JSON library
/// reports values in the order of the text but not where they stand: the n-th that it reports begins at `starts()[n]`.
class JsonText {
 public:
  /// `source` is put in front of every complaint; it may be empty. Keeps a view of `text`.
  /// Throws Error(invalid_argument) for a text that is too long, too deep or holds a zero byte, before anything is parsed.
  JsonText(std::string_view text, std::string source);

  std::string_view text() const { return text_; }
  const std::vector<std::uint32_t>& starts() const { return starts_; }

  /// Throws Error(invalid_argument): source, line and column of the byte at `offset`, and what was expected there.
  [[noreturn]] void fail(std::size_t offset, std::string_view expected) const;

 private:
  void scan();

  std::string_view text_;
  std::string source_;
  std::vector<std::uint32_t> starts_;
};

}  // namespace collectives
