// What no importer may do, whatever it is given: crash, hang, or take memory without bound.
#include <sys/resource.h>

#include <chrono>
#include <collectives/error.hpp>
#include <collectives/topology.hpp>
#include <iostream>
#include <random>

#include "fuzz/importers.hpp"
#include "machines.hpp"
#include "test.hpp"

using namespace collectives;

namespace {

std::string repeated(std::string_view text, std::size_t times) {
  std::string out;
  out.reserve(text.size() * times);
  for (std::size_t i = 0; i < times; ++i) out += text;
  return out;
}

long peak_kilobytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

const FuzzTarget& target_named(std::string_view name) {
  for (const FuzzTarget& target : fuzz_targets())
    if (target.name == name) return target;
  throw std::logic_error("no such target");
}

/// One to four changes: bytes that tell, pieces taken out, doubled or taken from another place.
std::string mutated(std::string text, std::mt19937_64& random) {
  static constexpr char telling[] = "<>/=\"{}[]:,.-+eE0123456789 \n\tGPUXNVSYPHBIOK\x1b\x7f\xff";
  for (auto changes = 1 + random() % 4; changes > 0; --changes) {
    if (text.empty()) text.push_back('<');
    const auto place = random() % text.size();
    switch (random() % 5) {
      case 0:
        text.erase(place, 1 + random() % 80);
        break;
      case 1:
        text.insert(place, 1 + random() % 3, telling[random() % (sizeof telling - 1)]);
        break;
      case 2:
        text.insert(place, text.substr(random() % text.size(), random() % 400));
        break;
      case 3:
        text[place] = static_cast<char>(random());
        break;
      default: {
        // A figure becomes another one.
        const auto digit = text.find_first_of("0123456789", place);
        if (digit != std::string::npos) text[digit] = static_cast<char>('0' + random() % 10);
      }
    }
  }
  return text;
}

}  // namespace

TEST_CASE("every description cut at any byte is a machine or an error", "[topology][import][fuzz]") {
  for (const FuzzTarget& target : fuzz_targets())
    for (const char* seed : target.seeds) {
      const std::string text = machine_text(seed);
      CAPTURE(target.name, seed);
      REQUIRE(target.run(text));
      std::size_t machines = 0;
      for (std::size_t length = 0; length < text.size(); ++length) machines += target.run(std::string_view(text).substr(0, length));
      // What follows a whole table may be missing; the beginning of one may not.
      CHECK(machines < text.size() / 2 + 600);
      CHECK_FALSE(target.run(std::string_view(text).substr(0, text.size() / 8)));
    }
}

TEST_CASE("descriptions with bytes changed at random are machines or errors", "[topology][import][fuzz]") {
  const auto seed = GENERATE(take(1, random(0, 1 << 30)));
  std::cout << "importers, mutated with seed " << seed << "\n";
  std::mt19937_64 random(static_cast<std::uint64_t>(seed));
  for (const FuzzTarget& target : fuzz_targets()) {
    const auto begin = std::chrono::steady_clock::now();
    std::size_t machines = 0, tries = 0;
    while (std::chrono::steady_clock::now() - begin < std::chrono::milliseconds(700)) {
      machines += target.run(mutated(machine_text(target.seeds[tries % target.seeds.size()]), random));
      ++tries;
    }
    std::cout << "  " << target.name << ": " << tries << " texts, " << machines << " machines\n";
    // Importers that refused everything would pass otherwise.
    CHECK(machines * 50 > tries);
  }
}

TEST_CASE("hostile sizes and depths are refused within a second and without much memory", "[topology][import]") {
  const auto [name, text] = GENERATE(table<const char*, std::string>({
      {"any", std::string(100'000'000, 'x')},
      {"any", "{" + std::string(100'000'000, ' ')},
      {"any", repeated("[{", 500'000)},
      {"any", std::string(15'000'000, ' ')},
      {"any", std::string(15'000'000, '\n')},
      {"any", repeated("a ", 8'000'000)},
      {"smi", "GPU0" + repeated("\tGPU1", 3'000'000)},
      {"smi", repeated("\tGPU0\nGPU0 X\n", 1'000'000)},
      {"smi", "GPU0 GPU1\nGPU0 X " + std::string(15'000'000, 'N')},
      {"smi", repeated("\x1b[", 8'000'000)},
      {"p2p_test", "P2P=Enabled Latency\nGPU" + repeated(" 0", 5'000'000)},
      {"p2p_test", repeated("Device: 0, x, pciBusID: 1\n", 500'000)},
      {"nccl", repeated("<a>", 1'000'000)},
      {"nccl", repeated("<pci>", 600'000)},
      {"nccl", "<system>" + repeated("<cpu/>", 600'000) + "</system>"},
      {"nccl", "<system>" + repeated("<cpu numaid=\"1\"><pci busid=\"0000:01:00.0\" class=\"0x030000\"/></cpu>", 50'000) + "</system>"},
      {"nccl", "<system " + repeated("a=\"\" ", 700'000) + "/>"},
      {"nccl", "<!DOCTYPE a [<!ENTITY b \"c\">]><system/>"},
      {"hwloc", "<topology version=\"2.0\">" + repeated("<object type=\"Bridge\">", 190'000)},
      {"hwloc", "<topology version=\"2.0\">" + repeated("<object type=\"NUMANode\"/>", 150'000) + "</topology>"},
      {"hwloc", "<topology version=\"2.0\"><object nodeset=\"" + std::string(4'000'000, ',') + "\"/></topology>"},
  }));
  CAPTURE(name, text.size(), text.substr(0, 40));
  const auto before = peak_kilobytes();
  const auto begin = std::chrono::steady_clock::now();
  CHECK_FALSE(target_named(name).run(text));
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(1));
  CHECK(peak_kilobytes() - before < 300'000);
}
