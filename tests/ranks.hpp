#pragma once

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <collectives/error.hpp>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/file_descriptor.hpp"

namespace collectives {

enum class RanksAre { threads, processes };

/// What `body(rank)` ended with: "ok", or the name of its error's code and its text.
inline std::string outcome_of(const std::function<void(int)>& body, int rank) {
  try {
    body(rank);
    return "ok";
  } catch (const Error& error) {
    return std::string(name_of(error.code())) + ": " + error.what();
  } catch (const std::exception& error) {
    return std::string("exception: ") + error.what();
  }
}

/// A forked process that runs `body` and reports its outcome; leaves by _exit so that nothing of the parent runs twice.
struct RankProcess {
  pid_t pid = -1;
  FileDescriptor report;

  RankProcess(const std::function<void(int)>& body, int rank) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) throw Error(ErrorCode::system, "pipe2");
    report = FileDescriptor(ends[0]);
    FileDescriptor write_end(ends[1]);
    pid = ::fork();
    if (pid != 0) return;
    const std::string outcome = outcome_of(body, rank);
    ::_exit(::write(write_end.get(), outcome.data(), outcome.size()) == static_cast<ssize_t>(outcome.size()) ? 0 : 1);
  }

  std::string outcome() {
    std::string text;
    char buffer[512];
    ssize_t count = 0;
    while ((count = ::read(report.get(), buffer, sizeof buffer)) > 0) text.append(buffer, static_cast<std::size_t>(count));
    ::waitpid(pid, nullptr, 0);
    return text;
  }
};

/// Runs `body(rank)` for each rank at once.
inline std::vector<std::string> run_ranks(RanksAre kind, int size, const std::function<void(int)>& body) {
  std::vector<std::string> outcomes(size);
  if (kind == RanksAre::threads) {
    std::vector<std::thread> threads;
    for (int rank = 0; rank < size; ++rank) threads.emplace_back([&, rank] { outcomes[rank] = outcome_of(body, rank); });
    for (auto& thread : threads) thread.join();
    return outcomes;
  }
  std::vector<RankProcess> processes;
  for (int rank = 0; rank < size; ++rank) processes.emplace_back(body, rank);
  for (int rank = 0; rank < size; ++rank) outcomes[rank] = processes[rank].outcome();
  return outcomes;
}

inline std::size_t open_descriptors() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

}  // namespace collectives
