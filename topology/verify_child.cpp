#include "topology/verify_child.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "base/require.hpp"

namespace collectives {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t longest_line = 4096;
constexpr int most_farewells = 3;

/// Starts `command` with `socket` as its input and output, and `complaints` as its standard error.
pid_t spawn(const std::vector<std::string>& command, int socket, int complaints) {
  require(!command.empty(), "a command for the process that touches the links was expected");
  std::vector<char*> words;
  for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, socket, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, socket, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, complaints, STDERR_FILENO);
  pid_t pid = -1;
  const int error = ::posix_spawn(&pid, words[0], &actions, nullptr, words.data(), ::environ);
  posix_spawn_file_actions_destroy(&actions);
  require(error == 0, [&] { return fmt::format("cannot start {}: {}", command[0], std::strerror(error)); }, ErrorCode::system);
  return pid;
}

}  // namespace

void ProbeChild::launch() {
  if (pid_ >= 0) return;
  int ends[2], errors[2];
  system_check(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), "socketpair");
  socket_ = FileDescriptor(ends[0]);
  const FileDescriptor theirs(ends[1]);  // closed here, or its end would never be heard
  system_check(::pipe2(errors, O_CLOEXEC), "pipe2");
  complaints_ = FileDescriptor(errors[0]);
  const FileDescriptor their_errors(errors[1]);
  system_check(::fcntl(complaints_.get(), F_SETFL, O_NONBLOCK), "fcntl");
  heard_.clear();
  pid_ = spawn(options_.prober, theirs.get(), their_errors.get());
  if (options_.injection) tell(to_line(*options_.injection));
  tell("begin");
}

bool ProbeChild::start() {
  if (ready_) return true;
  if (!failure_.empty()) return false;
  launch();
  std::string line;
  const Heard heard = hear(line, Clock::now() + options_.start_timeout);
  ready_ = heard == Heard::line && line == "ready";
  if (ready_) return true;
  if (heard == Heard::line) failure_ = line.starts_with("failed ") ? line.substr(7) : fmt::format("it said '{}'", line);
  came_late_ = heard == Heard::late;
  if (came_late_) failure_ = fmt::format("CUDA did not come up within {} ms", options_.start_timeout.count());
  if (heard == Heard::gone) failure_ = died();
  stop();
  return false;
}

void ProbeChild::stop() {
  pass_on_complaints();
  socket_ = {};
  ready_ = false;
  if (pid_ < 0) return;
  // It leaves by itself when its input ends; one that hangs does not, and one that hangs in the driver is left behind.
  for (int i = 0; i < 200; ++i) {
    if (::waitpid(pid_, nullptr, WNOHANG) != 0) break;  // and never a signal to -1, which is everybody
    if (i == 50) ::kill(pid_, SIGKILL);
    std::this_thread::sleep_for(10ms);
  }
  pid_ = -1;
  pass_on_complaints();
  complaints_ = {};
}

void ProbeChild::abandon() {
  if (!ready_) return stop();
  pass_on_complaints();
  (void)tell("leave");
  socket_ = {};
  complaints_ = {};
  ready_ = false;
  pid_ = -1;
}

std::string ProbeChild::died() {
  int status = 0;
  for (int i = 0; i < 100; ++i) {
    if (::waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = -1;
      ready_ = false;
      return WIFSIGNALED(status) ? fmt::format("the process that tried it died of signal {}", WTERMSIG(status))
                                 : fmt::format("the process that tried it ended with status {}", WEXITSTATUS(status));
    }
    std::this_thread::sleep_for(10ms);
  }
  return "the process that tried it closed its output";
}

bool ProbeChild::tell(const std::string& line) {
  const std::string text = line + "\n";
  return ::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
}

ProbeChild::Heard ProbeChild::hear(std::string& line, Clock::time_point deadline) {
  for (;;) {
    if (const auto end = heard_.find('\n'); end != std::string::npos) {
      line = heard_.substr(0, end);
      heard_.erase(0, end + 1);
      return Heard::line;
    }
    if (heard_.size() > longest_line) return Heard::gone;
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return Heard::late;
    pollfd polls[] = {{.fd = socket_.get(), .events = POLLIN, .revents = 0}, {.fd = complaints_.get(), .events = POLLIN, .revents = 0}};
    if (::poll(polls, 2, static_cast<int>(std::min<long long>(left, 1000))) <= 0) continue;
    if (polls[1].revents != 0) pass_on_complaints();
    if (polls[0].revents == 0) continue;
    char buffer[512];
    const ssize_t count = ::recv(socket_.get(), buffer, sizeof buffer, 0);
    if (count <= 0) return Heard::gone;
    heard_.append(buffer, static_cast<std::size_t>(count));
  }
}

void ProbeChild::pass_on_complaints() {
  char buffer[4096];
  for (;;) {
    const ssize_t count = complaints_.get() < 0 ? 0 : ::read(complaints_.get(), buffer, sizeof buffer);
    if (count < 0) return;
    if (count == 0) break;
    if (::write(STDERR_FILENO, buffer, static_cast<std::size_t>(count)) < 0) return;
  }
  complaints_ = {};  // at its end it would be readable for ever
}

ProbeChild::Answer ProbeChild::ask(const std::string& request, std::chrono::milliseconds patience, const std::function<void(const std::string&)>& take) {
  Heard heard = tell(request) ? Heard::line : Heard::gone;
  std::string line;
  while (heard == Heard::line) {
    heard = hear(line, Clock::now() + patience);
    if (heard != Heard::line) break;
    if (line == "end") {
      farewells_ = 0;
      return {.complete = true, .why = "the process that tried it said nothing of it"};
    }
    if (line.starts_with("bye ")) {
      stop();
      // Where nothing works, such as GPUs that others have filled, a child a step would take minutes.
      if (++farewells_ == most_farewells) failure_ = line.substr(4);
      return {.gave_up = true, .why = line.substr(4)};
    }
    take(line);
  }
  const bool late = heard == Heard::late;
  if (late) ::kill(pid_, SIGKILL);
  const std::string why = late ? fmt::format("the process that tried it hung and was killed after {} ms", patience.count()) : died();
  stop();
  return {.late = late, .why = why};
}

std::vector<Report> ProbeChild::run(const ProbeStep& step) {
  std::vector<Report> reports;
  const auto open = [&] {
    std::vector<DevicePair> pairs;
    for (const DevicePair pair : step.pairs)
      if (std::none_of(reports.begin(), reports.end(), [pair](const Report& report) { return report.pair == pair; })) pairs.push_back(pair);
    return pairs;
  };
  const auto close = [&](Verdict verdict, const std::string& reason) {
    for (const DevicePair pair : open()) reports.push_back({step.id, pair, verdict, -1, 0, reason});
  };
  if (!start()) return close(Verdict::inconclusive, failure_), reports;
  const Answer answer = ask(to_line(step), options_.step_timeout, [&](const std::string& line) { reports.push_back(report_from_line(line)); });
  const auto pairs = open();
  if (answer.complete || answer.gave_up || pairs.size() == 1)
    return close(answer.late ? Verdict::hang : Verdict::inconclusive, answer.why), reports;
  for (const DevicePair pair : pairs) {
    ProbeStep alone = step;
    alone.pairs = {pair};
    for (Report& report : run(alone)) reports.push_back(std::move(report));
  }
  return reports;
}

std::vector<AllReduceCheck> ProbeChild::run(const AllReduceStep& step) {
  std::vector<AllReduceCheck> checks;
  const auto close = [&](bool late, const std::string& why) {
    for (std::string error = why; checks.size() < step.bytes.size(); error = "not tried: " + why) {
      AllReduceCheck& check = checks.emplace_back();
      check.bytes = step.bytes[checks.size() - 1];
      check.error = error;
      check.timed_out = late;
    }
  };
  if (!start()) return close(came_late_, failure_), checks;
  const Answer answer = ask(to_line(step), options_.all_reduce_timeout, [&](const std::string& line) { checks.push_back(check_from_line(line)); });
  return close(answer.late, answer.why), checks;
}

}  // namespace collectives
