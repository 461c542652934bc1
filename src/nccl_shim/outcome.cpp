#include "nccl_shim/outcome.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <mutex>

#include "base/log.hpp"

namespace collectives {
namespace {

using Text = std::array<char, 1024>;

std::mutex last_mutex;
Text last_text{};

}  // namespace

NcclResult nccl_result_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument: return nccl_invalid_argument;
    case ErrorCode::invalid_usage:
    case ErrorCode::mismatch:
    case ErrorCode::unsupported: return nccl_invalid_usage;
    case ErrorCode::peer_lost:
    case ErrorCode::timeout:
    case ErrorCode::aborted: return nccl_remote_error;
    case ErrorCode::out_of_memory:
    case ErrorCode::system: return nccl_system_error;
    case ErrorCode::device: return nccl_unhandled_cuda_error;
    case ErrorCode::internal: return nccl_internal_error;
  }
  return nccl_internal_error;
}

NcclResult remember_nccl_error(NcclResult result, const char* function, const char* text) noexcept {
  try {
    const std::string line = fmt::format("{}: {}", function, text);
    log(LogLevel::info, "{}", line);
    const std::lock_guard lock(last_mutex);
    const std::size_t length = std::min(line.size(), last_text.size() - 1);
    std::memcpy(last_text.data(), line.data(), length);
    last_text[length] = '\0';
  } catch (...) {
    // Without memory for the words the code still says it.
  }
  return result;
}

const char* last_nccl_error() noexcept {
  thread_local Text own;
  const std::lock_guard lock(last_mutex);
  own = last_text;
  return own.data();
}

}  // namespace collectives
