#include "base/env.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "base/require.hpp"

namespace collectives {
namespace {

/// Set-uid programs take nothing from their environment.
std::string value_of(const char* name) {
  const char* value = secure_getenv(name);
  return value ? value : "";
}

[[noreturn]] void refuse(std::string_view name, std::string_view value, std::string_view allowed) {
  throw Error(ErrorCode::invalid_argument, fmt::format("{}={} is not valid: expected {}", name, value, allowed));
}

template <typename Number>
bool parse_whole(std::string_view text, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc{} && end == text.data() + text.size();
}

LogLevel parse_log(const std::string& value) {
  constexpr const char* names[] = {"off", "error", "warn", "info", "trace"};
  for (int level = 0; level < 5; ++level)
    if (value == names[level]) return static_cast<LogLevel>(level);
  refuse("COLLECTIVES_LOG", value, "off, error, warn, info or trace");
}

constexpr const char* p2p_values = "auto, required, off, or pairs of different ranks to refuse such as 0-1,2-3, or to pull such as pull:0-1";

std::pair<int, int> parse_pair(std::string_view pair, const std::string& value) {
  std::pair<int, int> ranks;
  const auto dash = pair.find('-');
  if (dash == std::string_view::npos || !parse_whole(pair.substr(0, dash), ranks.first) ||
      !parse_whole(pair.substr(dash + 1), ranks.second) || ranks.first < 0 || ranks.second < 0 || ranks.first == ranks.second)
    refuse("COLLECTIVES_P2P", value, p2p_values);
  return ranks;
}

PeerPolicy parse_p2p(const std::string& value) {
  if (value == "auto") return {};
  if (value == "required") return {.mode = PeerMode::p2p};
  if (value == "off") return {.mode = PeerMode::host};
  PeerPolicy policy;
  for (std::string_view rest = value;;) {
    const auto comma = rest.find(',');
    std::string_view pair = rest.substr(0, comma);
    constexpr std::string_view pull = "pull:";
    const bool pulled = pair.starts_with(pull);
    if (pulled) pair.remove_prefix(pull.size());
    (pulled ? policy.pulled : policy.refused).push_back(parse_pair(pair, value));
    if (comma == std::string_view::npos) return policy;
    rest.remove_prefix(comma + 1);
  }
}

std::uint32_t parse_timeout(const std::string& value) {
  std::uint32_t milliseconds = 0;
  if (!parse_whole<std::uint32_t>(value, milliseconds) || milliseconds == 0 || milliseconds > 86'400'000)
    refuse("COLLECTIVES_TIMEOUT_MS", value, "milliseconds from 1 to 86400000");
  return milliseconds;
}

bool parse_switch(std::string_view name, const std::string& value) {
  if (value != "0" && value != "1") refuse(name, value, "0 or 1");
  return value == "1";
}

CallSummary parse_summary(const std::string& value) {
  if (value == "ranks") return CallSummary::ranks;
  if (value != "0" && value != "1") refuse("COLLECTIVES_SUMMARY", value, "0, 1 or ranks");
  return value == "1" ? CallSummary::process : CallSummary::none;
}

bool names(const std::vector<std::pair<int, int>>& pairs, int a, int b) {
  return std::any_of(pairs.begin(), pairs.end(), [=](const auto& pair) { return pair == std::pair(a, b) || pair == std::pair(b, a); });
}

/// A launcher's number; 0 for what is none.
int count_from(const char* name) {
  int count = 0;
  return parse_whole<int>(value_of(name), count) && count > 0 ? count : 0;
}

}  // namespace

bool PeerPolicy::refuses(int a, int b) const { return (mode == PeerMode::host && a != b) || names(refused, a, b); }

bool PeerPolicy::pulls(int a, int b) const { return names(pulled, a, b); }

std::size_t parse_bytes(std::string_view text, std::string_view what) {
  const std::string number(text.substr(0, text.find_first_not_of("0123456789.")));
  std::string_view unit = text.substr(number.size());
  double factor = 0;
  if (unit.empty() || unit == "B") factor = 1;
  if (unit == "K" || unit == "KB" || unit == "k") factor = 1024.0;
  if (unit == "M" || unit == "MB" || unit == "m") factor = 1024.0 * 1024;
  if (unit == "G" || unit == "GB" || unit == "g") factor = 1024.0 * 1024 * 1024;
  char* end = nullptr;
  const double value = number.empty() ? -1 : std::strtod(number.c_str(), &end);
  const double bytes = value * factor;
  if (number.empty() || *end != '\0' || factor == 0 || !(bytes >= 0) || bytes > 0x1p60)
    refuse(what, text, "a number of bytes, with K, M or G for binary units");
  return static_cast<std::size_t>(std::llround(bytes));
}

Environment read_environment() {
  Environment environment;
  if (const auto value = value_of("COLLECTIVES_LOG"); !value.empty()) environment.log = parse_log(value);
  if (const auto value = value_of("COLLECTIVES_POOL_BYTES"); !value.empty())
    environment.pool_bytes = parse_bytes(value, "COLLECTIVES_POOL_BYTES");
  if (const auto value = value_of("COLLECTIVES_P2P"); !value.empty()) environment.p2p = parse_p2p(value);
  if (const auto value = value_of("COLLECTIVES_TIMEOUT_MS"); !value.empty()) environment.timeout_ms = parse_timeout(value);
  environment.machine_file = value_of("COLLECTIVES_MACHINE");
  environment.algorithm = value_of("COLLECTIVES_ALGORITHM");
  environment.nccl_fallback = value_of("COLLECTIVES_NCCL_FALLBACK");
  if (const auto value = value_of("COLLECTIVES_DISABLE"); !value.empty()) environment.disable = parse_switch("COLLECTIVES_DISABLE", value);
  if (const auto value = value_of("COLLECTIVES_PROGRAMMATIC_LAUNCH"); !value.empty())
    environment.programmatic_launch = parse_switch("COLLECTIVES_PROGRAMMATIC_LAUNCH", value);
  if (const auto value = value_of("COLLECTIVES_SUMMARY"); !value.empty()) environment.summary = parse_summary(value);
  if (const auto value = value_of("COLLECTIVES_TUNED"); !value.empty()) environment.tuned = parse_switch("COLLECTIVES_TUNED", value);
  return environment;
}

std::vector<std::string> runtime_directories() {
  std::vector<std::string> directories;
  for (const char* name : {"XDG_RUNTIME_DIR", "TMPDIR"})
    if (auto value = value_of(name); value.starts_with('/')) directories.push_back(std::move(value));
  directories.emplace_back("/tmp");
  return directories;
}

Launch read_launch() {
  constexpr std::pair<const char*, const char*> launchers[] = {
      {"WORLD_SIZE", "LOCAL_WORLD_SIZE"}, {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"}, {"SLURM_NTASKS", "SLURM_NTASKS_PER_NODE"}};
  for (const auto& [all, here] : launchers)
    if (const Launch launch{count_from(all), count_from(here)}; launch.processes > 0 && launch.on_this_host > 0) return launch;
  return {};
}

std::string cuda_visible_devices() { return value_of("CUDA_VISIBLE_DEVICES"); }

std::optional<std::string> cache_directory() {
  if (const auto value = value_of("XDG_CACHE_HOME"); value.starts_with('/')) return value + "/collectives";
  if (const auto value = value_of("HOME"); value.starts_with('/')) return value + "/.cache/collectives";
  return {};
}

}  // namespace collectives
