#pragma once

#include <pugixml.hpp>

#include "topology/source_text.hpp"

namespace collectives {

inline constexpr std::size_t max_xml_bytes = 4u << 20;
inline constexpr int max_xml_depth = 64;

/// An XML text that is small and shallow enough to walk through.
class XmlText {
 public:
  /// Throws Error(invalid_argument) for what is not XML, and for what is too long, too deep or declares entities.
  explicit XmlText(const SourceText& source);

  pugi::xml_node root() const { return document_.document_element(); }

  [[noreturn]] void fail(pugi::xml_node at, std::string_view expected) const;

  /// The number that an attribute must hold, in decimal or behind 0x; `otherwise` if there is no such attribute or it is empty.
  int number(pugi::xml_node node, const char* attribute, int otherwise) const;
  /// A PCI address in the spelling that machines use; empty if the attribute is missing or is no address, as in virtual machines.
  std::string pci(pugi::xml_node node, const char* attribute) const;

 private:
  const SourceText& source_;
  pugi::xml_document document_;
};

}  // namespace collectives
