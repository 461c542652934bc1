#pragma once

#include <span>
#include <string_view>

/// An importer as a target for hostile input: `run` returns whether the text is a machine, and anything but that or a proper
/// error ends the program. `seeds` are files of tests/machines.
struct FuzzTarget {
  const char* name;
  bool (*run)(std::string_view text);
  std::span<const char* const> seeds;
};

std::span<const FuzzTarget> fuzz_targets();
