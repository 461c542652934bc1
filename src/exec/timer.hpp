#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "exec/executor.hpp"

namespace collectives {

/// Where one rank times its own calls: memory for them, a stream and a clock.
class Timer {
 public:
  virtual ~Timer() = default;

  virtual Stream stream() const = 0;
  /// Zeros, as many bytes as were asked for, for calls to work on.
  virtual std::byte* memory() const = 0;
  /// Two words that calls and the host reach alike.
  virtual std::uint64_t* words() const = 0;
  /// What a call takes, in nanoseconds, by some samples of `calls` calls that follow each other, each enqueued by `call`: the median of a graph
  /// that is replayed on GPUs; the least on the host, where whatever else runs adds to most of them. Each sample begins behind what `meet`
  /// enqueues. Throws what has killed the rank.
  virtual std::uint64_t time(int calls, int samples, const std::function<void()>& meet, const std::function<void()>& call) = 0;
};

/// `executor` runs the rank's calls.
std::unique_ptr<Timer> make_host_timer(Executor& executor, std::size_t bytes);
std::unique_ptr<Timer> make_cuda_timer(Executor& executor, int device, std::size_t bytes);

}  // namespace collectives
