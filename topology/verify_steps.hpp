#pragma once

#include <collectives/verify.hpp>
#include <string>
#include <string_view>
#include <vector>

// What the process that verifies and its child say to each other: a line a step, and in answer a line a pair, or a line a size.
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

/// All-reduces to check on ranks on these devices, one a size.
struct AllReduceStep {
  std::vector<int> devices;
  bool through_host = false;     ///< whatever peer access there is
  std::uint32_t timeout_ms = 0;  ///< of the ranks themselves
  std::vector<std::size_t> bytes;
  bool operator==(const AllReduceStep&) const = default;
};

/// The pairs in groups in which no GPU comes twice.
std::vector<std::vector<DevicePair>> rounds_of(const std::vector<DevicePair>& pairs);

std::string in_one_line(std::string text);
std::string to_line(const ProbeStep& step);
std::string to_line(const Report& report);
std::string to_line(const AllReduceStep& step);
std::string to_line(const AllReduceCheck& check);
std::string to_line(const Injection& injection);
/// Throw Error(invalid_argument) for anything that `to_line` does not write.
ProbeStep step_from_line(const std::string& line);
Report report_from_line(const std::string& line);
AllReduceStep all_reduce_step_from_line(const std::string& line);
AllReduceCheck check_from_line(const std::string& line);
Injection injection_from_line(const std::string& line);

}  // namespace collectives
