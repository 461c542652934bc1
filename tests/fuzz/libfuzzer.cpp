// One program an importer, for libFuzzer: FUZZ_TARGET names it. Seeds lie in tests/machines.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "fuzz/importers.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  for (const FuzzTarget& target : fuzz_targets())
    if (target.name == std::string_view(FUZZ_TARGET)) return target.run({reinterpret_cast<const char*>(data), size}), 0;
  std::abort();
}
