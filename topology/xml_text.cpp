#include "topology/xml_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "topology/graph.hpp"

namespace collectives {
namespace {

/// Stops at the first node that is deeper than allowed. pugixml walks without recursion.
struct DepthCheck : pugi::xml_tree_walker {
  pugi::xml_node too_deep;
  bool for_each(pugi::xml_node& node) override {
    if (depth() >= max_xml_depth) too_deep = node;
    return !too_deep;
  }
};

}  // namespace

XmlText::XmlText(const SourceText& source) : source_(source) {
  const std::string_view text = source.text();
  if (text.size() > max_xml_bytes) source.fail(0, fmt::format("at most {} MiB of XML", max_xml_bytes >> 20));
  // pugixml leaves entities alone; what else may read this text does not.
  if (const auto entity = text.find("<!ENTITY"); entity != std::string_view::npos) source.fail(entity, "no declarations of entities");
  const auto result = document_.load_buffer(text.data(), text.size(), pugi::parse_default, pugi::encoding_utf8);
  if (!result)
    source.fail(static_cast<std::size_t>(std::max<std::ptrdiff_t>(result.offset, 0)), fmt::format("valid XML: {}", result.description()));
  DepthCheck check;
  document_.traverse(check);
  if (check.too_deep) fail(check.too_deep, fmt::format("at most {} nested elements", max_xml_depth));
}

void XmlText::fail(pugi::xml_node at, std::string_view expected) const {
  source_.fail(static_cast<std::size_t>(std::max<std::ptrdiff_t>(at.offset_debug(), 0)), expected);
}

int XmlText::number(pugi::xml_node node, const char* attribute, int otherwise) const {
  const std::string_view text = node.attribute(attribute).value();
  if (text.empty()) return otherwise;
  const bool hexadecimal = text.starts_with("0x");
  const std::string_view digits = text.substr(hexadecimal ? 2 : 0);
  int number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number, hexadecimal ? 16 : 10);
  if (error != std::errc{} || end != digits.data() + digits.size())
    fail(node, fmt::format("a whole number for {}, found '{}'", attribute, shown(text)));
  return number;
}

std::string XmlText::pci(pugi::xml_node node, const char* attribute) const {
  std::string text = node.attribute(attribute).value();
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c; });
  // Eight digits of domain are one spelling of it, four the other.
  while (text.size() > 12 && text[0] == '0') text.erase(0, 1);
  return is_pci_address(text) ? text : "";
}

}  // namespace collectives
