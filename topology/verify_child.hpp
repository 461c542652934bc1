#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>

#include "base/file_descriptor.hpp"
#include "topology/verify_steps.hpp"

namespace collectives {

/// The process that touches the links, from its parent's side: started when it is needed, killed when it is late, started anew.
class ProbeChild {
 public:
  explicit ProbeChild(const VerifyOptions& options) : options_(options) {}
  ~ProbeChild() { stop(); }
  ProbeChild(const ProbeChild&) = delete;
  ProbeChild& operator=(const ProbeChild&) = delete;

  /// One report for each pair of the step, whatever happens. Where the child hangs or dies with several pairs open, each is tried
  /// alone, so that the verdict names the right one. Throws Error(system) if no child can be started.
  std::vector<Report> run(const ProbeStep& step);

  /// Starts the child if there is none, without waiting until it is ready.
  void launch();
  /// Lets it leave without waiting for that. No step may follow.
  void dismiss() { socket_ = {}; }

 private:
  using Clock = std::chrono::steady_clock;
  enum class Heard { line, late, gone };

  /// True: ready for a step. False: it said why it will never be, which stands in `failure_`.
  bool start();
  void stop();
  std::string died();
  Heard hear(std::string& line, Clock::time_point deadline);
  bool tell(const std::string& line);

  const VerifyOptions& options_;
  pid_t pid_ = -1;
  bool ready_ = false;
  FileDescriptor socket_;
  std::string heard_;    ///< bytes behind the last line
  std::string failure_;  ///< why every further step is inconclusive
  int farewells_ = 0;    ///< children in a row that gave up over a step
};

}  // namespace collectives
