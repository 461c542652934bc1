#pragma once

#include <chrono>

namespace perf {

/// Wall-clock time since it was made.
class Stopwatch {
 public:
  double us() const { return std::chrono::duration<double, std::micro>(Clock::now() - began_).count(); }
  double ms() const { return us() / 1000; }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point began_ = Clock::now();
};

}  // namespace perf
