#pragma once

#include <collectives/error.hpp>
#include <source_location>
#include <string>
#include <string_view>

namespace collectives {

/// Throws Error(code, message) unless `condition` holds. The message says what was expected.
inline void require(bool condition, std::string_view message, ErrorCode code = ErrorCode::invalid_argument) {
  if (!condition) throw Error(code, std::string(message));
}

/// The same for a message that is costly to build: `message` is called only on failure.
template <typename Message>
  requires requires(Message m) { std::string(m()); }
void require(bool condition, Message&& message, ErrorCode code = ErrorCode::invalid_argument) {
  if (!condition) throw Error(code, message());
}

/// For what cannot fail unless this library is wrong.
inline void ensure(bool condition, std::string_view message, std::source_location where = std::source_location::current()) {
  if (!condition)
    throw Error(ErrorCode::internal,
                std::string(where.file_name()) + ":" + std::to_string(where.line()) + ": " + std::string(message));
}

/// Throws Error(system) naming the call and errno unless `result` is non-negative; returns it.
int system_check(int result, std::string_view call);

}  // namespace collectives
