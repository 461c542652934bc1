#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "topology/source_text.hpp"

namespace collectives {

inline constexpr int max_json_depth = 64;

/// A JSON text that is small and shallow enough to parse, with the place of every key and value in it. The JSON library
/// reports values in the order of the text but not where they stand: the n-th that it reports begins at `starts()[n]`.
class JsonText {
 public:
  /// Throws Error(invalid_argument) for a text that is too deep, before anything is parsed. The JSON library would take a
  /// zero byte for the end and not see what follows it, but `SourceText` holds none.
  explicit JsonText(const SourceText& source);

  std::string_view text() const { return source_.text(); }
  const std::vector<std::uint32_t>& starts() const { return starts_; }

  [[noreturn]] void fail(std::size_t offset, std::string_view expected) const { source_.fail(offset, expected); }

 private:
  void scan();

  const SourceText& source_;
  std::vector<std::uint32_t> starts_;
};

}  // namespace collectives
