#pragma once

#include <fmt/format.h>

#include "base/env.hpp"

namespace collectives {

/// One line to standard error, `collectives: level: text`, if COLLECTIVES_LOG allows this level.
void log_line(LogLevel level, std::string_view text);
bool log_enabled(LogLevel level);

template <typename... Args>
void log(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(level)) log_line(level, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace collectives
