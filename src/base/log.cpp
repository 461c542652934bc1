#include "base/log.hpp"

#include <unistd.h>

#include <string>

namespace collectives {
namespace {

/// A bad value here must not throw out of a log call: it is reported by the first communicator instead.
LogLevel configured_level() {
  try {
    return read_environment().log;
  } catch (...) {
    return LogLevel::warn;
  }
}

}  // namespace

bool log_enabled(LogLevel level) {
  static const LogLevel configured = configured_level();
  return static_cast<int>(level) <= static_cast<int>(configured);
}

void log_line(LogLevel level, std::string_view text) {
  constexpr const char* names[] = {"off", "error", "warn", "info", "trace"};
  const std::string line = fmt::format("collectives: {}: {}\n", names[static_cast<int>(level)], text);
  // One write keeps the lines of several processes whole.
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace collectives
