#pragma once

#include <collectives/communicator.hpp>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace perf {

using collectives::DataType;
using collectives::ReduceOp;

/// What the command line asks for. Names and meanings are nccl-tests' where it has them.
struct Settings {
  std::size_t min_bytes = 32u << 20;
  std::size_t max_bytes = 32u << 20;
  std::size_t step_bytes = 1u << 20;
  int step_factor = 1;      ///< above 1: sizes are multiplied, step_bytes is not used
  int repetitions = 20;     ///< timed batches a line
  int warmups = 5;          ///< calls before the first batch
  int calls_per_batch = 0;  ///< 0: by size
  int run_cycles = 1;       ///< sweeps; 0: for ever
  int checks = 1;           ///< checked calls a line and side; 0: none
  std::vector<DataType> types{DataType::float32};
  std::vector<ReduceOp> ops{ReduceOp::sum};
  int root = 0;
  int graph_launches = 0;  ///< above 0: batches are CUDA graphs
  bool blocking = false;
  bool null_stream = false;
  bool per_call = false;    ///< every call is a batch of its own
  std::size_t unalign = 0;  ///< buffers begin this many elements past an aligned address
  std::string json_file;

  std::optional<int> threads;  ///< of one process
  std::optional<int> ranks_per_thread;
  std::optional<int> cpu_ranks;
  std::optional<int> virtual_ranks;
  std::optional<int> processes;

  std::vector<std::string> compare;  ///< "nccl", "nccl-symmetric"
  std::string nccl_library = "libnccl.so.2";
  int nccl_max_ctas = 0;         ///< its communicators' configuration; 0: its choice
  collectives::Options library;  ///< what the communicators are made with
};

/// Reads a command line. Throws Error(invalid_argument) that says what was expected; an empty result means that help was asked
/// for and printed.
std::optional<Settings> parse_settings(int argc, const char* const* argv, const std::string& program);

/// 4096, 64K, 1.5M, 2G; binary units.
std::size_t parse_size(std::string_view text);

/// nccl-tests' names, or all.
std::vector<DataType> parse_types(std::string_view text);
std::vector<ReduceOp> parse_ops(std::string_view text);

/// The element counts of a sweep, ascending and without repeats: whole elements only, at least one.
std::vector<std::size_t> element_counts(const Settings& settings, DataType type);

/// How many calls make a batch of this many bytes: enough that starting the batch does not show.
int calls_per_batch(const Settings& settings, std::size_t bytes, bool on_gpu);

/// Timed batches a line: a graph's median wants ten at least.
int repetitions(const Settings& settings);

}  // namespace perf
