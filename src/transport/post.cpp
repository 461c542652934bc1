#include "transport/post.hpp"

#include <fmt/format.h>

#include <chrono>

#include "base/require.hpp"

namespace collectives {

void Letters::put(int from, int to, std::span<const std::uint8_t> letter) {
  {
    const std::lock_guard lock(mutex_);
    letters_[{from, to}].emplace_back(letter.begin(), letter.end());
  }
  changed_.notify_all();
}

std::vector<std::uint8_t> Letters::take(int from, int to, std::size_t bytes, std::uint32_t timeout_ms) {
  std::unique_lock lock(mutex_);
  auto& waiting = letters_[{from, to}];
  const bool came = changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms), [&] { return !waiting.empty(); });
  require(came, [&] { return fmt::format("no letter from rank {} within {} ms: each rank of a process needs a thread of its own for this", from, timeout_ms); }, ErrorCode::timeout);
  std::vector<std::uint8_t> letter = std::move(waiting.front());
  waiting.pop_front();
  require(letter.size() == bytes, [&] { return fmt::format("rank {} sent a letter of {} bytes where {} were expected: the ranks make different calls", from, letter.size(), bytes); },
          ErrorCode::mismatch);
  return letter;
}

}  // namespace collectives
