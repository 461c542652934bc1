// The machine file is read from the JSON library's events straight into a Machine: no tree of values stands between, so every
// complaint can name a line and a column, a key given twice is seen, and the caps hold before memory is taken.
#include "topology/json_read.hpp"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <variant>

#include "base/require.hpp"
#include "topology/fields.hpp"
#include "topology/graph.hpp"
#include "topology/names.hpp"

namespace collectives {
namespace {

using Json = nlohmann::json;
using Value = std::variant<std::nullptr_t, bool, std::int64_t, std::uint64_t, double, std::string>;

/// Each takes a value or says what was expected instead.
using Expected = std::optional<std::string>;

Expected take(std::string& member, const Value& value) {
  const auto* text = std::get_if<std::string>(&value);
  if (!text) return "a string";
  member = *text;
  return {};
}

Expected take(bool& member, const Value& value) {
  const auto* flag = std::get_if<bool>(&value);
  if (!flag) return "true or false";
  member = *flag;
  return {};
}

Expected take(std::uint64_t& member, const Value& value) {
  const auto* number = std::get_if<std::uint64_t>(&value);
  if (!number) return "a whole number from 0 to 18446744073709551615";
  member = *number;
  return {};
}

Expected take(int& member, const Value& value) {
  constexpr int greatest = std::numeric_limits<int>::max();
  if (const auto* number = std::get_if<std::uint64_t>(&value); number && *number <= greatest) {
    member = static_cast<int>(*number);
    return {};
  }
  if (const auto* number = std::get_if<std::int64_t>(&value); number && *number >= -1 && *number <= greatest) {
    member = static_cast<int>(*number);
    return {};
  }
  return fmt::format("a whole number from -1 to {}", greatest);
}

Expected take(double& member, const Value& value) {
  if (const auto* number = std::get_if<double>(&value))
    member = *number;
  else if (const auto* number = std::get_if<std::uint64_t>(&value))
    member = static_cast<double>(*number);
  else if (const auto* number = std::get_if<std::int64_t>(&value))
    member = static_cast<double>(*number);
  else
    return "a number from 0 up";
  if (!std::isfinite(member) || member < 0) return "a number from 0 up";
  return {};
}

template <typename Enum>
requires std::is_enum_v<Enum> Expected take(Enum& member, const Value& value) {
  const auto names = names_of(member);
  const auto* text = std::get_if<std::string>(&value);
  for (std::size_t i = 0; text && i < names.size(); ++i)
    if (*text == names[i]) {
      member = static_cast<Enum>(i);
      return {};
    }
  return fmt::format("one of \"{}\"", fmt::join(names, "\", \""));
}

/// Takes the events of one machine file. `place_` is where the reader stands: the file has three levels and no more.
class MachineReader {
 public:
  explicit MachineReader(const JsonText& text) : text_(text) {}

  Machine finish() {
    if (const auto fault = find_fault(machine_)) {
      const auto& starts = element_starts_[static_cast<std::size_t>(fault->list)];
      text_.fail(starts[fault->index], "a consistent machine: " + fault->message);
    }
    return std::move(machine_);
  }

  bool null() { return value(nullptr); }
  bool boolean(bool flag) { return value(flag); }
  bool number_integer(std::int64_t number) { return value(number); }
  bool number_unsigned(std::uint64_t number) { return value(number); }
  bool number_float(double number, const std::string&) { return value(number); }
  bool string(std::string& text) { return value(std::move(text)); }
  bool binary(Json::binary_t&) { fail("JSON text"); }

  bool start_object(std::size_t) {
    next();
    switch (place_) {
      case Place::outside:
        place_ = Place::root;
        root_start_ = offset_;
        break;
      case Place::nodes:
        add(machine_.nodes, max_nodes, Place::node);
        break;
      case Place::links:
        add(machine_.links, max_links, Place::link);
        break;
      case Place::peers:
        add(machine_.peers, max_peers, Place::peer);
        break;
      default:
        refuse_structure();
    }
    (place_ == Place::root ? root_keys_ : keys_).clear();
    return true;
  }

  bool key(std::string& name) {
    next();
    key_ = std::move(name);
    if (!(place_ == Place::root ? root_keys_ : keys_).insert(key_).second) fail(fmt::format("\"{}\" only once", shown(key_)));
    if (!is_known_key()) fail(fmt::format("one of {}; found \"{}\"", known_keys(), shown(key_)));
    return true;
  }

  bool end_object() {
    if (place_ == Place::root) {
      if (!root_keys_.contains("format")) text_.fail(root_start_, fmt::format("\"format\": {} in the machine", machine_file_format));
      place_ = Place::outside;
    } else {
      with_element([&](auto& element) {
        for_each_field(element, [&](const char* name, auto&, Presence presence) {
          if (presence == Presence::required && !keys_.contains(name))
            text_.fail(element_starts_[list_].back(), fmt::format("\"{}\" in this element", name));
        });
      });
      place_ = static_cast<Place>(static_cast<int>(Place::nodes) + static_cast<int>(list_));
    }
    return true;
  }

  bool start_array(std::size_t) {
    next();
    if (place_ != Place::root) refuse_structure();
    if (key_ == "nodes")
      place_ = Place::nodes;
    else if (key_ == "links")
      place_ = Place::links;
    else if (key_ == "peers")
      place_ = Place::peers;
    else
      refuse_structure();
    return true;
  }

  bool end_array() {
    place_ = Place::root;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const Json::exception& error) {
    // The library's own line and column are in its text, which goes "[...] parse error at line 1, column 2: what".
    std::string what = error.what();
    if (const auto colon = what.find(": "); colon != std::string::npos && what.find("column") < colon)
      what.erase(0, colon + 2);
    else
      what.erase(0, what.find("] ") + 2);
    text_.fail(position > 0 ? position - 1 : 0, "valid JSON: " + what.substr(0, 200));
  }

 private:
  enum class Place { outside, root, nodes, links, peers, node, link, peer };

  /// Every event that begins a key or a value comes through here once.
  void next() {
    ensure(events_ < text_.starts().size(), "the scan of a JSON text found fewer tokens than its parser");
    offset_ = text_.starts()[events_++];
  }

  [[noreturn]] void fail(std::string_view expected) const { text_.fail(offset_, expected); }

  [[noreturn]] void refuse_structure() const {
    switch (place_) {
      case Place::outside:
        fail("an object that describes a machine");
      case Place::nodes:
      case Place::links:
      case Place::peers:
        fail("an object");
      case Place::root:
        if (key_ == "nodes" || key_ == "links" || key_ == "peers") fail(fmt::format("an array for \"{}\"", key_));
        fail(fmt::format("a {} for \"{}\"", key_ == "format" ? "number" : "string", key_));
      default:
        fail(fmt::format("a plain value for \"{}\"", key_));
    }
  }

  template <typename Element>
  void add(std::vector<Element>& elements, std::size_t limit, Place place) {
    if (elements.size() == limit) fail(fmt::format("at most {} elements", limit));
    elements.emplace_back();
    list_ = static_cast<std::size_t>(place) - static_cast<std::size_t>(Place::node);
    element_starts_[list_].push_back(offset_);
    place_ = place;
  }

  template <typename Visitor>
  void with_element(Visitor visit) {
    if (place_ == Place::node) visit(machine_.nodes.back());
    if (place_ == Place::link) visit(machine_.links.back());
    if (place_ == Place::peer) visit(machine_.peers.back());
  }

  bool is_known_key() {
    bool known = false;
    if (place_ == Place::root)
      for (const char* name : root_names) known = known || key_ == name;
    with_element(
        [&](auto& element) { for_each_field(element, [&](const char* name, auto&, Presence) { known = known || key_ == name; }); });
    return known;
  }

  std::string known_keys() {
    std::vector<std::string> names;
    if (place_ == Place::root) names.assign(std::begin(root_names), std::end(root_names));
    with_element([&](auto& element) { for_each_field(element, [&](const char* name, auto&, Presence) { names.emplace_back(name); }); });
    return fmt::format("\"{}\"", fmt::join(names, "\", \""));
  }

  bool value(const Value& value) {
    next();
    Expected expected;
    switch (place_) {
      case Place::root:
        expected = take_root(value);
        break;
      case Place::node:
      case Place::link:
      case Place::peer:
        with_element([&](auto& element) {
          for_each_field(element, [&](const char* name, auto& member, Presence) {
            if (key_ == name) expected = take(member, value);
          });
        });
        break;
      default:
        refuse_structure();
    }
    if (expected) fail(fmt::format("{} for \"{}\"", *expected, key_));
    return true;
  }

  Expected take_root(const Value& value) {
    Expected expected;
    bool is_text = false;
    for_each_text(machine_, [&](const char* name, std::string& member) {
      if (key_ != name) return;
      is_text = true;
      expected = take(member, value);
    });
    if (is_text) return expected;
    if (key_ != "format") refuse_structure();
    int format = 0;
    if (take(format, value) || format != machine_file_format) return fmt::format("the number {}", machine_file_format);
    return {};
  }

  static constexpr const char* root_names[] = {"format", "name", "driver", "hypervisor", "iommu", "nodes", "links", "peers"};

  const JsonText& text_;
  Machine machine_;
  Place place_ = Place::outside;
  std::size_t list_ = 0;  ///< the list of the element being read: 0 nodes, 1 links, 2 peers
  std::size_t events_ = 0;
  std::size_t offset_ = 0;  ///< of the key or value being read
  std::size_t root_start_ = 0;
  std::string key_;
  std::set<std::string> root_keys_;
  std::set<std::string> keys_;  ///< of the element being read
  std::vector<std::uint32_t> element_starts_[3];
};

}  // namespace

Machine read_machine(const JsonText& text) {
  MachineReader reader(text);
  // Parse errors do not return: the reader throws.
  Json::sax_parse(text.text(), &reader);
  return reader.finish();
}

}  // namespace collectives
