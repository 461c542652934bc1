// Bandwidth and latency between every ordered pair of GPUs, by copy engines and by kernels.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <collectives/error.hpp>
#include <cstdio>
#include <fstream>

#include "perf/options.hpp"
#include "perf/p2p_measure.hpp"

namespace {

using namespace perf;

struct CommandLine {
  P2pSettings settings;
  std::string size = "64M";
  std::string json_file;
};

void measure_all(const CommandLine& line) {
  const auto names = gpu_names();
  if (names.empty()) fmt::print("No GPU ({}): there is nothing to measure\n", why_no_gpu());
  for (const std::string& name : names) fmt::print("{}\n", name);
  if (names.size() == 1) fmt::print("One GPU: the figures are its own memory's\n");
  const int gpus = static_cast<int>(names.size());
  std::vector<Matrix> matrices;
  const auto keep = [&](Matrix matrix) {
    fmt::print("\n{}", to_text(matrix));
    std::fflush(stdout);
    matrices.push_back(std::move(matrix));
  };
  if (gpus > 0) {
    keep(measure_access(gpus));
    for (const bool both_ways : {false, true})
      for (const bool access : {false, true}) keep(measure_copy_bandwidth(gpus, access, both_ways, line.settings));
    for (const bool access : {false, true}) keep(measure_copy_latency(gpus, access, line.settings));
    for (const bool loads : {false, true}) keep(measure_sm_bandwidth(gpus, loads, line.settings));
    keep(measure_flag_latency(gpus, line.settings));
  }
  if (line.json_file.empty()) return;
  std::ofstream file(line.json_file);
  file << to_json(names, matrices);
  if (!file.flush()) throw collectives::Error(collectives::ErrorCode::system, "cannot write " + line.json_file);
}

}  // namespace

int main(int argc, char** argv) {
  CommandLine line;
  CLI::App app("Measures what every GPU can do to every other", "p2p_perf");
  app.add_option("-b,--bytes", line.size, "size of a copy, with K, M or G")->capture_default_str();
  app.add_option("-n,--iters", line.settings.repetitions, "repetitions; the median counts")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--json", line.json_file, "write the matrices there too");
  CLI11_PARSE(app, argc, argv);
  try {
    line.settings.bytes = parse_size(line.size) / 16 * 16;
    if (line.settings.bytes == 0) throw collectives::Error(collectives::ErrorCode::invalid_argument, "-b: expected 16 bytes or more");
    measure_all(line);
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 3;
  }
  return 0;
}
