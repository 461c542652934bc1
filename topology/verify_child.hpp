#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>

#include "base/file_descriptor.hpp"
#include "topology/verify_steps.hpp"

namespace collectives {

/// The process that touches the links, from its parent's side: started when it is needed, killed when it is late, started anew. What
/// it writes to standard error passes through here: it holds nothing open for which somebody waits who reads what the parent writes.
class ProbeChild {
 public:
  explicit ProbeChild(const VerifyOptions& options) : options_(options) {}
  ~ProbeChild() { stop(); }
  ProbeChild(const ProbeChild&) = delete;
  ProbeChild& operator=(const ProbeChild&) = delete;

  /// One report for each pair of the step, whatever happens. Where the child hangs or dies with several pairs open, each is tried
  /// alone, so that the verdict names the right one. Throws Error(system) if no child can be started.
  std::vector<Report> run(const ProbeStep& step);
  /// One check for each size, whatever happens. Where the child hangs or dies over one, those after it are not tried.
  std::vector<AllReduceCheck> run(const AllReduceStep& step);

  /// Starts the child if there is none, without waiting until it is ready.
  void launch();
  /// True: ready for a step. False: it said why it will never be, which stands in `failure_`.
  bool start();
  /// Waits until the child has gone, two seconds at most.
  void stop();
  /// Lets it go by itself, soon. Nobody waits for that, and no step may follow.
  void abandon();

 private:
  using Clock = std::chrono::steady_clock;
  enum class Heard { line, late, gone };

  /// How an answer ended: with what it should end with, or why it did not.
  struct Answer {
    bool complete = false;
    bool late = false;     ///< the child was killed for it
    bool gave_up = false;  ///< it said so itself
    std::string why;
  };
  /// Sends a request and hands every line of the answer to `take`. A child that is late with a line is killed.
  Answer ask(const std::string& request, std::chrono::milliseconds patience, const std::function<void(const std::string&)>& take);

  std::string died();
  Heard hear(std::string& line, Clock::time_point deadline);
  bool tell(const std::string& line);
  void pass_on_complaints();

  const VerifyOptions& options_;
  pid_t pid_ = -1;
  bool ready_ = false;
  FileDescriptor socket_;
  FileDescriptor complaints_;  ///< its standard error
  std::string heard_;          ///< bytes behind the last line
  std::string failure_;        ///< why every further step is inconclusive
  bool came_late_ = false;     ///< that it hung is why
  int farewells_ = 0;          ///< children in a row that gave up over a step
};

}  // namespace collectives
