#include "base/require.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>

namespace collectives {

int system_check(int result, std::string_view call) {
  if (result < 0) {
    const int error = errno;
    throw Error(ErrorCode::system, fmt::format("{} failed: {}", call, std::strerror(error)));
  }
  return result;
}

}  // namespace collectives
