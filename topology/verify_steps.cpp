#include "topology/verify_steps.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>

#include "base/require.hpp"

namespace collectives {
namespace {

constexpr int most_devices = 1024;

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
  std::string reason = report.reason;
  std::replace(reason.begin(), reason.end(), '\n', ' ');
  return fmt::format("report {} {} {} {} {} {} {}", report.step, report.pair.from, report.pair.to, static_cast<int>(report.verdict),
                     report.first_bad_offset, report.figure, reason);
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
