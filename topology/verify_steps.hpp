#pragma once

#include <collectives/verify.hpp>
#include <string>
#include <string_view>
#include <vector>

// What the process that verifies and its child say to each other: a line a step, and a line a pair in answer.
namespace collectives {

enum class Probe : std::uint8_t { check, rate, latency };

/// One thing to try on pairs that share no GPU, all at once.
struct ProbeStep {
  int id = 0;
  Probe probe = Probe::check;
  Method method = Method::store;
  std::vector<DevicePair> pairs;
  bool operator==(const ProbeStep&) const = default;
};

/// What came of it for one pair.
struct Report {
  int step = 0;
  DevicePair pair;
  Verdict verdict = Verdict::inconclusive;
  std::int64_t first_bad_offset = -1;
  double figure = 0;  ///< GB/s of a rate, microseconds of a latency
  std::string reason;
  bool operator==(const Report&) const = default;
};

/// The pairs in groups in which no GPU comes twice.
std::vector<std::vector<DevicePair>> rounds_of(const std::vector<DevicePair>& pairs);

std::string to_line(const ProbeStep& step);
std::string to_line(const Report& report);
std::string to_line(const Injection& injection);
/// Throw Error(invalid_argument) for anything that `to_line` does not write.
ProbeStep step_from_line(const std::string& line);
Report report_from_line(const std::string& line);
Injection injection_from_line(const std::string& line);

}  // namespace collectives
