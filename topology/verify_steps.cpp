#include "topology/verify_steps.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>

#include "base/require.hpp"

namespace collectives {
namespace {

constexpr int most_devices = 1024;
constexpr int most_sizes = 64;
constexpr const char* no_word = "-";

/// Reads words of a line; what is missing or not a number is an error that shows the line.
class LineWords {
 public:
  explicit LineWords(const std::string& line) : line_(line), words_(line) {}

  template <typename Value>
  Value next() {
    Value value{};
    if (!(words_ >> value)) fail();
    return value;
  }
  int number(int limit) {
    const int value = next<int>();
    if (value < 0 || value >= limit) fail();
    return value;
  }
  DevicePair pair() {
    const int from = number(most_devices);
    return {from, number(most_devices)};
  }
  std::string rest() {
    std::string text;
    std::getline(words_ >> std::ws, text);
    return text;
  }
  void expect(std::string_view word) {
    if (next<std::string>() != word) fail();
  }
  [[noreturn]] void fail() const {
    throw Error(ErrorCode::invalid_argument, fmt::format("not a line of the link prober: '{}'", line_.substr(0, 80)));
  }

 private:
  const std::string& line_;
  std::istringstream words_;
};

}  // namespace

std::string in_one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

std::vector<std::vector<DevicePair>> rounds_of(const std::vector<DevicePair>& pairs) {
  std::vector<std::vector<DevicePair>> rounds;
  for (const DevicePair pair : pairs) {
    const auto meets = [pair](const DevicePair& other) {
      return other.from == pair.from || other.from == pair.to || other.to == pair.from || other.to == pair.to;
    };
    const auto free = std::find_if(rounds.begin(), rounds.end(),
                                   [&](const auto& round) { return std::none_of(round.begin(), round.end(), meets); });
    if (free == rounds.end())
      rounds.push_back({pair});
    else
      free->push_back(pair);
  }
  return rounds;
}

std::string to_line(const ProbeStep& step) {
  std::string line = fmt::format("step {} {} {} {}", step.id, static_cast<int>(step.probe), static_cast<int>(step.method), step.pairs.size());
  for (const DevicePair pair : step.pairs) line += fmt::format(" {} {}", pair.from, pair.to);
  return line;
}

ProbeStep step_from_line(const std::string& line) {
  LineWords words(line);
  words.expect("step");
  ProbeStep step;
  step.id = words.next<int>();
  step.probe = static_cast<Probe>(words.number(3));
  step.method = static_cast<Method>(words.number(method_count));
  const int pairs = words.number(most_devices);
  for (int i = 0; i < pairs; ++i) step.pairs.push_back(words.pair());
  return step;
}

std::string to_line(const Report& report) {
  return fmt::format("report {} {} {} {} {} {} {}", report.step, report.pair.from, report.pair.to, static_cast<int>(report.verdict),
                     report.first_bad_offset, report.figure, in_one_line(report.reason));
}

Report report_from_line(const std::string& line) {
  LineWords words(line);
  words.expect("report");
  Report report;
  report.step = words.next<int>();
  report.pair = words.pair();
  report.verdict = static_cast<Verdict>(words.number(verdict_count));
  report.first_bad_offset = words.next<std::int64_t>();
  report.figure = words.next<double>();
  report.reason = words.rest();
  return report;
}

std::string to_line(const AllReduceStep& step) {
  return fmt::format("all_reduce {:d} {} {} {} {} {}", step.through_host, step.timeout_ms, step.devices.size(), fmt::join(step.devices, " "), step.bytes.size(),
                     fmt::join(step.bytes, " "));
}

AllReduceStep all_reduce_step_from_line(const std::string& line) {
  LineWords words(line);
  words.expect("all_reduce");
  AllReduceStep step;
  step.through_host = words.number(2) != 0;
  step.timeout_ms = words.next<std::uint32_t>();
  const int devices = words.number(most_devices);
  for (int i = 0; i < devices; ++i) step.devices.push_back(words.number(most_devices));
  const int sizes = words.number(most_sizes);
  for (int i = 0; i < sizes; ++i) step.bytes.push_back(words.next<std::size_t>());
  return step;
}

std::string to_line(const AllReduceCheck& check) {
  return fmt::format("checked {} {:d} {} {} {:d} {} {}", check.bytes, check.right, check.wrong_elements, check.us, check.timed_out,
                     check.plan.empty() ? no_word : check.plan, in_one_line(check.error));
}

AllReduceCheck check_from_line(const std::string& line) {
  LineWords words(line);
  words.expect("checked");
  AllReduceCheck check;
  check.bytes = words.next<std::size_t>();
  check.right = words.number(2) != 0;
  check.wrong_elements = words.next<std::size_t>();
  check.us = words.next<double>();
  check.timed_out = words.number(2) != 0;
  check.plan = words.next<std::string>();
  if (check.plan == no_word) check.plan.clear();
  check.error = words.rest();
  return check;
}

std::string to_line(const Injection& injection) {
  return fmt::format("inject {} {} {}", static_cast<int>(injection.kind), injection.pair.from, injection.pair.to);
}

Injection injection_from_line(const std::string& line) {
  LineWords words(line);
  words.expect("inject");
  const auto kind = static_cast<Injection::Kind>(words.number(4));
  return {kind, words.pair()};
}

Injection parse_injection(const std::string& text) {
  constexpr const char* names[] = {"drop", "delay", "corrupt", "hang"};
  for (int kind = 0; kind < 4; ++kind) {
    int from = 0, to = 0, read = 0;
    const std::string form = std::string(names[kind]) + ":%d-%d%n";
    if (std::sscanf(text.c_str(), form.c_str(), &from, &to, &read) == 2 && static_cast<std::size_t>(read) == text.size() && from >= 0 && to >= 0)
      return {static_cast<Injection::Kind>(kind), {from, to}};
  }
  throw Error(ErrorCode::invalid_argument, fmt::format("'{}' is no fault to inject: expected drop, delay, corrupt or hang, then a directed pair, such as corrupt:0-1", text));
}

}  // namespace collectives
