#include "cli/options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <collectives/error.hpp>

namespace cli {
namespace {

using collectives::DataType;
using collectives::Error;
using collectives::ErrorCode;
using collectives::Machine;

[[noreturn]] void refuse(const std::string& message) { throw Error(ErrorCode::invalid_argument, message); }

template <typename Value>
Value parse_named(std::string_view text, int count, std::string_view what) {
  std::string names;
  for (int i = 0; i < count; ++i) {
    const auto value = static_cast<Value>(i);
    if (text == name_of(value)) return value;
    names += fmt::format("{}{}", i == 0 ? "" : ", ", name_of(value));
  }
  refuse(fmt::format("unknown {} '{}': expected one of {}", what, text, names));
}

constexpr std::pair<std::string_view, DataType> short_names[] = {{"fp64", DataType::float64},         {"fp32", DataType::float32},
                                                                 {"fp16", DataType::float16},         {"bf16", DataType::bfloat16},
                                                                 {"fp8_e4m3", DataType::float8_e4m3}, {"fp8_e5m2", DataType::float8_e5m2}};

}  // namespace

void add_common_options(CLI::App& app, CommonOptions& options) {
  app.add_option("--machine", options.machine_file,
                 "a description of a machine in any known format (topology/README.md); default: this machine")
      ->type_name("FILE");
  app.add_flag("--json", options.json, "for programs");
}

Machine machine_of(const CommonOptions& options) {
  return options.machine_file.empty() ? collectives::detect_machine() : collectives::read_machine_file(options.machine_file);
}

std::size_t parse_bytes(std::string_view text) {
  double number = 0;
  const char* end = text.data() + text.size();
  const auto [rest, failure] = std::from_chars(text.data(), end, number);
  const std::string_view unit(rest, static_cast<std::size_t>(end - rest));
  constexpr std::string_view units = "KMGT";
  double scale = 0;
  if (unit.empty()) scale = 1;
  if (unit.size() == 1 && units.find(unit[0]) != std::string_view::npos)
    scale = std::exp2(10.0 * static_cast<double>(units.find(unit[0]) + 1));
  const double bytes = std::floor(number * scale);
  if (failure != std::errc{} || scale == 0 || !(number >= 0) || bytes > 0x1p50)
    refuse(fmt::format("'{}' is no size: expected bytes such as 4096, 64K, 1.5M, 140G or 2T", text));
  return static_cast<std::size_t>(bytes);
}

std::vector<int> parse_devices(std::string_view text) {
  std::vector<int> devices;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (true) {
    int device = 0;
    const auto [rest, failure] = std::from_chars(at, end, device);
    if (failure != std::errc{} || device < 0 || (rest != end && *rest != ','))
      refuse(fmt::format("'{}' is no list of GPUs: expected CUDA ordinals such as 0,1,2", text));
    devices.push_back(device);
    if (rest == end) return devices;
    at = rest + 1;
  }
}

DataType parse_type(std::string_view text) {
  for (const auto& [name, type] : short_names)
    if (text == name) return type;
  return parse_named<DataType>(text, collectives::data_type_count, "type");
}

collectives::ReduceOp parse_op(std::string_view text) {
  return parse_named<collectives::ReduceOp>(text, collectives::reduce_op_count, "op");
}

collectives::Collective parse_collective(std::string_view text) {
  return parse_named<collectives::Collective>(text, collectives::collective_count, "collective");
}

std::vector<int> devices_of(const Machine& machine, std::size_t least) {
  std::vector<int> devices;
  for (const int gpu : machine.gpus()) {
    const int device = machine.nodes[static_cast<std::size_t>(gpu)].device;
    if (device >= 0) devices.push_back(device);
  }
  if (devices.size() < least)
    throw Error(ErrorCode::unsupported,
                fmt::format("this needs {} GPUs that CUDA can see, and the machine has {}: --machine FILE describes another", least,
                            devices.size()));
  return devices;
}

void require_devices(const Machine& machine, const std::vector<int>& devices) {
  const std::vector<int> known = devices_of(machine, 0);
  for (std::size_t i = 0; i < devices.size(); ++i) {
    if (std::find(known.begin(), known.end(), devices[i]) == known.end())
      refuse(fmt::format("the machine has no GPU {}: expected some of {}", devices[i],
                         known.empty() ? "none" : fmt::format("{}", fmt::join(known, ","))));
    if (std::find(devices.begin(), devices.begin() + static_cast<std::ptrdiff_t>(i), devices[i]) !=
        devices.begin() + static_cast<std::ptrdiff_t>(i))
      refuse(fmt::format("GPU {} is named twice", devices[i]));
  }
}

}  // namespace cli
