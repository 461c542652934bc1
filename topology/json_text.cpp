#include "topology/json_text.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/require.hpp"

namespace collectives {
namespace {

constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";
constexpr std::string_view between_tokens = " \t\r\n,:";
constexpr std::string_view end_of_scalar = " \t\r\n,:[]{}\"";

/// Just past the string whose opening quote is at `begin`, or the end of the text.
std::size_t end_of_string(std::string_view text, std::size_t begin) {
  for (std::size_t i = begin + 1; i < text.size(); ++i) {
    if (text[i] == '\\')
      ++i;
    else if (text[i] == '"')
      return i + 1;
  }
  return text.size();
}

}  // namespace

JsonText::JsonText(std::string_view text, std::string source) : text_(text), source_(std::move(source)) {
  if (text_.size() > max_json_bytes) fail(0, fmt::format("at most {} MiB of JSON", max_json_bytes >> 20));
  // The JSON library takes a zero byte for the end and would not see what follows it.
  if (const auto zero = text_.find('\0'); zero != std::string_view::npos) fail(zero, "JSON text, found a zero byte");
  scan();
}

void JsonText::scan() {
  int depth = 0;
  std::size_t i = text_.starts_with(byte_order_mark) ? byte_order_mark.size() : 0;
  while (i < text_.size()) {
    const char c = text_[i];
    if (between_tokens.find(c) != std::string_view::npos) {
      ++i;
    } else if (c == ']' || c == '}') {
      --depth;
      ++i;
    } else {
      starts_.push_back(static_cast<std::uint32_t>(i));
      if (c == '[' || c == '{') {
        if (++depth > max_json_depth) fail(i, fmt::format("at most {} nested arrays and objects", max_json_depth));
        ++i;
      } else if (c == '"') {
        i = end_of_string(text_, i);
      } else {
        i = std::min(text_.find_first_of(end_of_scalar, i), text_.size());
      }
    }
  }
}

void JsonText::fail(std::size_t offset, std::string_view expected) const {
  const std::string_view before = text_.substr(0, offset);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const auto column = offset - (before.rfind('\n') + 1) + 1;  // without a newline rfind is npos, and npos + 1 is 0
  throw Error(ErrorCode::invalid_argument,
              fmt::format("{}{}line {}, column {}: expected {}", source_, source_.empty() ? "" : ": ", line, column, expected));
}

}  // namespace collectives
