#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

namespace collectives {

/// Short messages between two ranks of a communicator that already stands, in the order they were sent. Nobody else takes part.
class Post {
 public:
  virtual ~Post() = default;
  /// Throws Error(peer_lost) if the rank has gone, Error(timeout) after the deadline.
  virtual void send(int to, std::span<const std::uint8_t> letter) = 0;
  /// The next letter, which must have this many bytes. Throws the same, and Error(mismatch) for one of another length.
  virtual std::vector<std::uint8_t> receive(int from, std::size_t bytes) = 0;

 protected:
  Post() = default;
  Post(const Post&) = default;
  Post(Post&&) = default;
  Post& operator=(const Post&) = default;
  Post& operator=(Post&&) = default;
};

/// What the ranks of one process have sent each other and not yet received. For any thread.
class Letters {
 public:
  void put(int from, int to, std::span<const std::uint8_t> letter);
  std::vector<std::uint8_t> take(int from, int to, std::size_t bytes, std::uint32_t timeout_ms);

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::pair<int, int>, std::deque<std::vector<std::uint8_t>>> letters_;
};

/// The post of one rank whose peers are in this process, each driven by a thread of its own.
class LocalPost final : public Post {
 public:
  LocalPost(Letters& letters, int rank, std::uint32_t timeout_ms) : letters_(letters), rank_(rank), timeout_ms_(timeout_ms) {}
  void send(int to, std::span<const std::uint8_t> letter) override { letters_.put(rank_, to, letter); }
  std::vector<std::uint8_t> receive(int from, std::size_t bytes) override { return letters_.take(from, rank_, bytes, timeout_ms_); }

 private:
  Letters& letters_;
  int rank_;
  std::uint32_t timeout_ms_;
};

}  // namespace collectives
