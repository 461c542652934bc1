#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "topology/fields.hpp"
#include "topology/json_read.hpp"
#include "topology/json_text.hpp"
#include "topology/names.hpp"

namespace collectives {
namespace {

using OrderedJson = nlohmann::ordered_json;

template <typename Value>
OrderedJson to_value(const Value& value) {
  if constexpr (std::is_enum_v<Value>)
    return names_of(value)[static_cast<std::size_t>(value)];
  else
    return value;
}

/// Bytes that are not UTF-8, as a driver's name for a device may hold, become U+FFFD: JSON has no way to write them.
std::string to_text(const OrderedJson& value) { return value.dump(-1, ' ', false, OrderedJson::error_handler_t::replace); }

/// One line; what has its default is left out.
template <typename Element>
std::string to_line(const Element& element) {
  OrderedJson object = OrderedJson::object();
  OrderedJson defaults = OrderedJson::object();
  const Element fresh{};
  for_each_field(fresh, [&](const char* name, const auto& member, Presence) { defaults[name] = to_value(member); });
  for_each_field(element, [&](const char* name, const auto& member, Presence presence) {
    OrderedJson value = to_value(member);
    if (presence == Presence::required || value != defaults[name]) object[name] = std::move(value);
  });
  return to_text(object);
}

template <typename Element>
void append_list(std::string& out, const char* name, const std::vector<Element>& elements) {
  out += fmt::format(",\n  \"{}\": [", name);
  const char* separator = "\n    ";
  for (const Element& element : elements) {
    out += separator + to_line(element);
    separator = ",\n    ";
  }
  out += elements.empty() ? "]" : "\n  ]";
}

}  // namespace

std::string to_json(const Machine& machine) {
  validate(machine);
  std::string out = fmt::format("{{\n  \"format\": {}", machine_file_format);
  for_each_text(machine, [&](const char* name, const std::string& text) {
    if (!text.empty()) out += fmt::format(",\n  \"{}\": {}", name, to_text(text));
  });
  append_list(out, "nodes", machine.nodes);
  append_list(out, "links", machine.links);
  append_list(out, "peers", machine.peers);
  return out + "\n}\n";
}

Machine machine_from_json(std::string_view text) {
  const SourceText source(text, "");
  return read_machine(JsonText(source));
}

}  // namespace collectives
