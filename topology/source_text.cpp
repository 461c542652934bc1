#include "topology/source_text.hpp"

#include <fmt/format.h>
#include <collectives/error.hpp>

#include <algorithm>

namespace collectives {

SourceText::SourceText(std::string_view text, std::string name) : text_(text), name_(std::move(name)) {
  if (text_.size() > max_text_bytes) fail(0, fmt::format("at most {} MiB", max_text_bytes >> 20));
  if (const auto zero = text_.find('\0'); zero != std::string_view::npos) fail(zero, "text, found a zero byte");
}

void SourceText::fail(std::size_t offset, std::string_view expected) const {
  const std::string_view before = text_.substr(0, offset);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const auto column = offset - (before.rfind('\n') + 1) + 1;  // without a newline rfind is npos, and npos + 1 is 0
  throw Error(ErrorCode::invalid_argument,
              fmt::format("{}{}line {}, column {}: expected {}", name_, name_.empty() ? "" : ": ", line, column, expected));
}

std::string shown(std::string_view text) {
  std::string out(text.substr(0, 60));
  for (char& c : out)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  return out;
}

}  // namespace collectives
