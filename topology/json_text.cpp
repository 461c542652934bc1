#include "topology/json_text.hpp"

#include <fmt/format.h>

#include <algorithm>

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

JsonText::JsonText(const SourceText& source) : source_(source) { scan(); }

void JsonText::scan() {
  const std::string_view text = source_.text();
  int depth = 0;
  std::size_t i = text.starts_with(byte_order_mark) ? byte_order_mark.size() : 0;
  while (i < text.size()) {
    const char c = text[i];
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
        i = end_of_string(text, i);
      } else {
        i = std::min(text.find_first_of(end_of_scalar, i), text.size());
      }
    }
  }
}

}  // namespace collectives
