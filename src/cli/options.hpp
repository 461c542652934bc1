#pragma once

#include <CLI/CLI.hpp>
#include <collectives/topology.hpp>
#include <collectives/types.hpp>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace cli {

/// What every subcommand takes.
struct CommonOptions {
  std::string machine_file;  ///< empty: this machine
  bool json = false;
};

void add_common_options(CLI::App& app, CommonOptions& options);

/// The machine to work on: read from the file, else detected.
collectives::Machine machine_of(const CommonOptions& options);

// Each throws Error(invalid_argument) that quotes the text and says what was expected.

/// Whole bytes, with K, M, G or T: 4096, 64K, 1.5M. Powers of 1024.
std::size_t parse_bytes(std::string_view text);
/// CUDA ordinals with commas: 0,1,5.
std::vector<int> parse_devices(std::string_view text);
/// By the library's names or the short ones of models: bfloat16 or bf16.
collectives::DataType parse_type(std::string_view text);
collectives::ReduceOp parse_op(std::string_view text);
collectives::Collective parse_collective(std::string_view text);

/// The ordinals of the GPUs that CUDA can see. Throws Error(unsupported) if there are fewer than `least`.
std::vector<int> devices_of(const collectives::Machine& machine, std::size_t least);

/// Throws Error(invalid_argument) for a device that the machine does not have or that is named twice.
void require_devices(const collectives::Machine& machine, const std::vector<int>& devices);

}  // namespace cli
