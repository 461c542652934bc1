#include <fmt/format.h>

#include <chrono>
#include <collectives/error.hpp>
#include <collectives/topology.hpp>
#include <filesystem>
#include <random>

#include "machines.hpp"
#include "test.hpp"
#include "topology/json_text.hpp"

using namespace collectives;

namespace {

/// Parses hostile text: a valid machine that round-trips, or an Error that names a place. Returns whether it was valid.
bool survives(const std::string& text) {
  try {
    const Machine machine = machine_from_json(text);
    validate(machine);
    CHECK(machine_from_json(to_json(machine)) == machine);
    return true;
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::invalid_argument);
    CHECK_THAT(error.what(), ContainsSubstring("line ") && ContainsSubstring(", column ") && ContainsSubstring("expected"));
    return false;
  }
}

std::string repeated(const char* piece, int times) {
  std::string text;
  for (int i = 0; i < times; ++i) text += piece;
  return text;
}

std::string random_text(std::mt19937_64& random) {
  static const char* const pieces[] = {"a", "\"", "\\", "\n", "\t", "\x01", "é", "漢", "😀", "/", " ", "{", "\x7f"};
  std::string text;
  for (auto length = random() % 12; length > 0; --length) text += pieces[random() % std::size(pieces)];
  return text;
}

double random_figure(std::mt19937_64& random) {
  switch (random() % 4) {
    case 0:
      return 0;
    case 1:
      return static_cast<double>(random() % 1000);
    case 2:
      return std::ldexp(static_cast<double>(random() >> 11), static_cast<int>(random() % 1000) - 500);
    default:
      return static_cast<double>(random()) / 1e17;
  }
}

Machine random_machine(std::mt19937_64& random) {
  Machine machine;
  machine.name = random_text(random);
  machine.driver = random_text(random);
  machine.hypervisor = random_text(random);
  machine.iommu = random_text(random);
  const int count = static_cast<int>(random() % 7);
  for (int i = 0; i < count; ++i) {
    Node node;
    node.kind = static_cast<NodeKind>(random() % 5);
    node.name = random_text(random);
    if (random() % 2) node.pci = fmt::format("{:04x}:{:02x}:00.0", random() % 0x20000, i);
    if (random() % 2) node.uuid = fmt::format("{}{}", i, random_text(random));
    if (node.kind == NodeKind::gpu && random() % 2) node.device = i;
    node.numa = node.kind == NodeKind::cpu ? i : static_cast<int>(random() % 3) - 1;
    node.compute_capability = static_cast<int>(random() % 130);
    node.multiprocessors = static_cast<int>(random() % 200);
    node.memory_bytes = random() >> (random() % 64);
    node.bar1_bytes = random() >> (random() % 64);
    node.pcie_generation = static_cast<int>(random() % 7);
    node.pcie_width = static_cast<int>(random() % 17);
    node.mig = random() % 2;
    node.acs_redirect = random() % 2;
    machine.nodes.push_back(node);
  }
  for (int from = 0; from < count; ++from)
    for (int to = 0; to < count; ++to) {
      if (from == to || random() % 2) continue;
      Link link{
          from, to, static_cast<LinkKind>(random() % 4), random_figure(random), random_figure(random), static_cast<Evidence>(random() % 3)};
      machine.links.push_back(link);
      const auto is_gpu = [&](int node) { return machine.nodes[static_cast<std::size_t>(node)].kind == NodeKind::gpu; };
      if (!is_gpu(from) || !is_gpu(to)) continue;
      machine.peers.push_back({from, to, random() % 2 == 0, random() % 2 == 0, random() % 2 == 0, random_text(random), random_figure(random),
                               random_figure(random), static_cast<Evidence>(random() % 3), random_text(random), random_text(random)});
    }
  return machine;
}

const std::string one_node = R"({"format": 1, "nodes": [{"kind": "gpu"}]})";

}  // namespace

TEST_CASE("every golden machine file is read and written back byte for byte", "[topology][json]") {
  const std::string name = GENERATE(from_range(std::begin(machine_files), std::end(machine_files)));
  CAPTURE(name);
  const Machine machine = test_machine(name);
  CHECK(to_json(machine) == machine_text(name));
}

TEST_CASE("a golden file says what it says", "[topology][json]") {
  const Machine machine = test_machine("pcie_2x.json");
  CHECK(machine.name == "2 GPUs below one PCIe switch");
  CHECK(machine.driver == "550.54.14");
  REQUIRE(machine.nodes.size() == 5);
  CHECK(machine.nodes[1].kind == NodeKind::gpu);
  CHECK(machine.nodes[1].pci == "10000:02:00.0");
  CHECK(machine.nodes[1].device == 1);
  CHECK(machine.nodes[1].numa == 0);
  CHECK(machine.nodes[1].compute_capability == 89);
  CHECK(machine.nodes[1].multiprocessors == 142);
  CHECK(machine.nodes[1].memory_bytes == 51527024640u);
  REQUIRE(machine.peers.size() == 2);
  CHECK(machine.peers[1] == Peer{1, 0, true, false, false, "PIX", 26.3, 0.65, Evidence::verified, "", ""});
}

TEST_CASE("any machine round-trips exactly", "[topology][json]") {
  const auto seed = GENERATE(take(1, random(0, 1 << 30)));
  CAPTURE(seed);
  std::mt19937_64 random(static_cast<std::uint64_t>(seed));
  for (int i = 0; i < 300; ++i) {
    const Machine machine = random_machine(random);
    const std::string text = to_json(machine);
    CAPTURE(i, text);
    const Machine back = machine_from_json(text);
    REQUIRE(back == machine);
    REQUIRE(to_json(back) == text);
  }
}

TEST_CASE("fields that are left out get their defaults", "[topology][json]") {
  const Machine machine = machine_from_json(R"({"nodes":[{"kind":"gpu"},{"kind":"gpu"}],"peers":[{"to":1,"from":0}],"format":1})");
  CHECK(machine.nodes[0] == Node{});
  CHECK(machine.peers[0] == Peer{0, 1, false, false, false, "", 0, 0, Evidence::claimed, "", ""});
  CHECK(machine_from_json(R"({"format":1})") == Machine{});
  CHECK(machine_from_json("\xef\xbb\xbf" + one_node).nodes.size() == 1);
  CHECK(machine_from_json(R"({"format":1,"nodes":[{"kind":"cpu","numa":0}],"links":[]})").nodes[0].numa == 0);
}

TEST_CASE("an error gives line, column and what was expected", "[topology][json]") {
  const auto [text, complaint] = GENERATE(table<std::string, const char*>({
      {"", "line 1, column 1: expected valid JSON"},
      {"[]", "line 1, column 1: expected an object that describes a machine"},
      {"7", "line 1, column 1: expected an object that describes a machine"},
      {"{}", "line 1, column 1: expected \"format\": 1"},
      {"{\"format\": 2}", "line 1, column 12: expected the number 1 for \"format\""},
      {"{\"format\": \"1\"}", "line 1, column 12: expected the number 1"},
      {"{\"format\": 1.0}", "line 1, column 12: expected the number 1"},
      {"{\"format\": {}}", "line 1, column 12: expected a number for \"format\""},
      {"{\"format\": 1,\n \"colour\": 3}",
       "line 2, column 2: expected one of \"format\", \"name\", \"driver\", \"hypervisor\", \"iommu\", \"nodes\", \"links\", \"peers\"; found"},
      {"{\"format\": 1,\n \"format\": 1}", "line 2, column 2: expected \"format\" only once"},
      {"{\"format\": 1, \"name\": null}", "column 23: expected a string for \"name\""},
      {"{\"format\": 1, \"nodes\": {}}", "column 24: expected an array for \"nodes\""},
      {"{\"format\": 1, \"nodes\": 3}", "column 24: expected an array for \"nodes\""},
      {"{\"format\": 1, \"nodes\": [3]}", "column 25: expected an object"},
      {"{\"format\": 1, \"nodes\": [[]]}", "column 25: expected an object"},
      {"{\"format\": 1, \"name\": []}", "column 23: expected a string for \"name\""},
      {"{\"format\": 1,\n\"nodes\": [\n  {\"name\": \"x\"}]}", "line 3, column 3: expected \"kind\" in this element"},
      {"{\"format\": 1, \"nodes\": [{\"kind\": \"GPU\"}]}", "column 34: expected one of \"gpu\", \"cpu\", \"pci_switch\""},
      {"{\"format\": 1, \"nodes\": [{\"kind\": 0}]}", "column 34: expected one of \"gpu\""},
      {"{\"format\": 1, \"nodes\": [{\"kind\": \"gpu\", \"kind\": \"gpu\"}]}", "column 41: expected \"kind\" only once"},
      {"{\"format\": 1, \"nodes\": [{\"kind\": \"gpu\", \"size\": 1}]}", "column 41: expected one of \"kind\", \"name\", \"pci\""},
      {"{\"format\": 1, \"nodes\": [{\"kind\": \"gpu\", \"name\": {}}]}", "column 49: expected a plain value for \"name\""},
      {"{\"format\": 1, \"nodes\": [{\"kind\": \"gpu\", \"name\": true}]}", "column 49: expected a string for \"name\""},
      {"{\"format\": 1, \"nodes\": [{\"kind\": \"gpu\", \"device\": 2147483648}]}",
       "column 51: expected a whole number from -1 to 2147483647"},
      {"{\"format\": 1, \"nodes\": [{\"kind\": \"gpu\", \"device\": -2}]}", "column 51: expected a whole number from -1"},
      {"{\"format\": 1, \"nodes\": [{\"kind\": \"gpu\", \"device\": 1.5}]}", "column 51: expected a whole number from -1"},
      {"{\"format\": 1, \"nodes\": [{\"kind\": \"gpu\", \"memory_bytes\": -1}]}", "column 57: expected a whole number from 0"},
      {"{\"format\": 1, \"nodes\": [{\"kind\": \"gpu\", \"memory_bytes\": 18446744073709551616}]}",
       "column 57: expected a whole number from 0"},
      {"{\"format\": 1, \"nodes\": [{\"kind\": \"gpu\", \"multiprocessors\": -1}]}",
       "column 25: expected a consistent machine: node 0: multiprocessors"},
      {"{\"format\": 1, \"nodes\": [{\"kind\": \"gpu\", \"device\": 0},\n {\"kind\": \"gpu\", \"device\": 0}]}",
       "line 2, column 2: expected a consistent machine: node 1: another GPU"},
      {"{\"format\": 1, \"nodes\": [{\"kind\": \"gpu\"}],\n\"links\": [\n{\"from\":0,\"to\":1,\"kind\":\"pcie\"}]}",
       "line 3, column 1: expected a consistent machine: link 0: to is 1"},
      {"{\"format\": 1, \"links\": [{\"from\":0,\"to\":1,\"kind\":\"pcie\",\"gb_per_s\":-1}]}", "column 67: expected a number from 0 up"},
      {"{\"format\": 1, \"links\": [{\"from\":0,\"to\":1,\"kind\":\"pcie\",\"gb_per_s\":-0.5}]}", "expected a number from 0 up"},
      {"{\"format\": 1, \"links\": [{\"from\":0,\"to\":1,\"kind\":\"pcie\",\"gb_per_s\":\"3\"}]}", "expected a number from 0 up"},
      {"{\"format\": 1, \"links\": [{\"from\":0,\"to\":1,\"kind\":\"pcie\",\"gb_per_s\":1e999}]}", "expected valid JSON: number overflow"},
      {"{\"format\": 1, \"links\": [{\"from\":0,\"to\":1,\"kind\":\"pcie\",\"gb_per_s\":NaN}]}", "column 67: expected valid JSON"},
      {"{\"format\": 1, \"peers\": [{\"from\":0,\"to\":1,\"access\":1}]}", "column 51: expected true or false for \"access\""},
      {"{\"format\": 1}\n{}", "line 2, column 1: expected valid JSON"},
      {"{\"format\": 1,}", "line 1, column 14: expected valid JSON"},
      {"{\"format\": 1} // note", "line 1, column 15: expected valid JSON"},
      {std::string("{\"format\": 1}\0", 14), "line 1, column 14: expected text, found a zero byte"},
      {"{\"format\": 1, \"name\": \"\xff\"}", "expected valid JSON"},
      {"{\"format\": 1, \"name\": \"\\ud800\"}", "expected valid JSON"},
  }));
  CAPTURE(text);
  CHECK_THROWS_WITH(machine_from_json(text), ContainsSubstring(complaint));
  CHECK_FALSE(survives(text));
}

TEST_CASE("a machine file cut at any byte is an error with a place", "[topology][json]") {
  const std::string name = GENERATE(as<std::string>{}, "pcie_2x.json", "chain_3x.json", "nvlink_pairs_4x.json", "mixed_islands_7x.json");
  const std::string text = machine_text(name);
  for (std::size_t length = 0; length < text.size(); ++length) {
    CAPTURE(name, length);
    // Only the newline after the last brace may go.
    REQUIRE(survives(text.substr(0, length)) == (length == text.size() - 1));
  }
}

TEST_CASE("hostile sizes are refused at once", "[topology][json]") {
  const auto begin = std::chrono::steady_clock::now();
  SECTION("a million open brackets") {
    CHECK_THROWS_WITH(machine_from_json(repeated("[", 1'000'000)), ContainsSubstring("column 65: expected at most 64 nested"));
    CHECK_THROWS_WITH(machine_from_json(repeated("{\"a\":", 1'000'000)), ContainsSubstring("expected at most 64 nested"));
  }
  SECTION("brackets in a string do not nest") {
    CHECK(machine_from_json("{\"format\": 1, \"name\": \"" + repeated("[{\\\"", 1000) + "\"}").name.size() == 3000);
  }
  SECTION("64 levels are parsed and refused for what they are") {
    CHECK_THROWS_WITH(machine_from_json(repeated("[", 64) + repeated("]", 64)),
                      ContainsSubstring("expected an object that describes a machine"));
  }
  SECTION("a line of 20 MB") {
    CHECK_THROWS_WITH(machine_from_json("{\"format\": 1, \"name\": \"" + std::string(20'000'000, 'x') + "\"}"),
                      ContainsSubstring("expected at most 16 MiB"));
  }
  SECTION("a file without an end") {
    CHECK_THROWS_WITH(read_machine_file("/dev/zero"), ContainsSubstring("/dev/zero: line 1, column 1: expected at most 16 MiB"));
  }
  SECTION("too many elements") {
    CHECK_THROWS_WITH(machine_from_json("{\"format\": 1, \"nodes\": [" + repeated("{\"kind\":\"cpu\"},", 4097) + "{}]}"),
                      ContainsSubstring("expected at most 4096 elements"));
    CHECK_THROWS_WITH(
        machine_from_json("{\"format\": 1, \"links\": [" + repeated("{\"from\":0,\"to\":1,\"kind\":\"pcie\"},", 65537) + "{}]}"),
        ContainsSubstring("expected at most 65536 elements"));
  }
  SECTION("a long token does not make a long message") {
    try {
      machine_from_json("{\"format\": 1, \"" + std::string(1'000'000, 'k') + "\": 1}");
      FAIL("accepted");
    } catch (const Error& error) {
      CHECK(std::string(error.what()).size() < 1000);
    }
  }
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(10));
}

TEST_CASE("bytes changed at random give a machine or an error, never anything else", "[topology][json][fuzz]") {
  const auto seed = GENERATE(take(1, random(0, 1 << 30)));
  CAPTURE(seed);
  std::mt19937_64 random(static_cast<std::uint64_t>(seed));
  const std::string original = machine_text("pcie_2x.json");
  static constexpr char telling[] = "{}[]\",:\\-+.eE0123456789 \n\ttruefalsn\x00\x7f\xff\xef\xbb\xbf";
  int valid = 0;
  for (int i = 0; i < 4000; ++i) {
    std::string text = original;
    for (auto changes = 1 + random() % 4; changes > 0; --changes) {
      const auto place = random() % text.size();
      const char with = random() % 4 ? telling[random() % (sizeof telling - 1)] : static_cast<char>(random());
      switch (random() % 4) {
        case 0:
          text.erase(place, 1 + random() % 8);
          break;
        case 1:
          text.insert(place, 1 + random() % 3, with);
          break;
        case 2:
          text.insert(place, text.substr(random() % text.size(), random() % 40));
          break;
        default:
          text[place] = with;
      }
      if (text.empty()) text.push_back('{');
    }
    CAPTURE(i, text);
    valid += survives(text);
  }
  // Names and figures take many changes: a reader that refused everything would pass otherwise.
  CHECK(valid > 100);
}

TEST_CASE("an unreadable file is an error that names it", "[topology][json]") {
  CHECK_THROWS_WITH(read_machine_file("/nonexistent/machine.json"),
                    ContainsSubstring("/nonexistent/machine.json: ") && ContainsSubstring("No such file"));
  CHECK_THROWS_WITH(read_machine_file("/"), ContainsSubstring("Is a directory"));
}

TEST_CASE("a machine that cannot be read back is not written", "[topology][json]") {
  Machine machine = test_machine("pcie_2x.json");
  machine.peers[0].gb_per_s = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_WITH(to_json(machine), ContainsSubstring("peer 0: gb_per_s"));
}

TEST_CASE("a name that is not UTF-8 is written as far as JSON can", "[topology][json]") {
  Machine machine = test_machine("pcie_2x.json");
  machine.nodes[0].name = std::string("caf\xe9");
  CHECK(machine_from_json(to_json(machine)).nodes[0].name == "caf\xef\xbf\xbd");
}
