#include "perf/team.hpp"

#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <thread>

#include "perf/stopwatch.hpp"

namespace perf {
namespace {

using collectives::Communicator;
using collectives::Error;
using collectives::ErrorCode;

constexpr int failure_status = 3;
/// A failed rank's peers end by themselves; after this they are killed.
constexpr auto grace = std::chrono::seconds(20);

collectives::Options library_options(const Settings& settings, const Layout& layout) {
  collectives::Options options = settings.library;
  options.backend = layout.backend;
  return options;
}

double deadline_s(const Settings& settings) { return settings.library.timeout_ms ? *settings.library.timeout_ms / 1000.0 + 60 : 900; }

Worker make_worker(const Settings& settings, const Layout& layout, Board& board, int index) {
  Worker worker;
  worker.settings = &settings;
  worker.layout = &layout;
  worker.board = &board;
  worker.index = index;
  worker.first_rank = index * layout.ranks_per_worker();
  for (int local = 0; local < layout.ranks_per_worker(); ++local) {
    const int device = layout.devices[static_cast<std::size_t>(worker.first_rank + local)];
    worker.places.push_back(layout.on_gpu() ? make_cuda_place(device, settings.null_stream) : make_host_place());
  }
  return worker;
}

/// Runs the program so that a failure reaches the others before this worker waits for anything again.
int guarded(Worker& worker, const Program& program) {
  try {
    return program(worker);
  } catch (const std::exception& error) {
    worker.board->fail(fmt::format("rank {}: {}", worker.first_rank, error.what()));
  }
  for (Communicator& communicator : worker.communicators) {
    try {
      communicator.abort();
    } catch (const std::exception&) {
      // The failure that counts is on the board already.
    }
  }
  return failure_status;
}

int run_threads(const Settings& settings, const Layout& layout, Board& board, const Program& program) {
  std::vector<Worker> workers;
  for (int index = 0; index < layout.threads; ++index) workers.push_back(make_worker(settings, layout, board, index));
  const Stopwatch creation;
  auto communicators = Communicator::create_local(layout.devices, library_options(settings, layout));
  for (Worker& worker : workers) {
    worker.creation_ms = creation.ms();
    for (int local = 0; local < layout.ranks_per_thread; ++local)
      worker.communicators.push_back(std::move(communicators[static_cast<std::size_t>(worker.first_rank + local)]));
  }
  std::vector<int> statuses(workers.size());
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < workers.size(); ++i) threads.emplace_back([&, i] { statuses[i] = guarded(workers[i], program); });
  for (std::thread& thread : threads) thread.join();
  return *std::max_element(statuses.begin(), statuses.end());
}

int run_child(const Settings& settings, const Layout& layout, Board& board, int rank, const Program& program) {
  try {
    Worker worker = make_worker(settings, layout, board, rank);
    Board::Bytes bytes{};
    if (rank == 0) bytes = collectives::make_unique_id().bytes;
    const collectives::UniqueId id{board.broadcast(rank, bytes)};
    if (layout.on_gpu()) use_device(layout.devices[static_cast<std::size_t>(rank)]);
    const Stopwatch creation;
    worker.communicators.push_back(Communicator::create(id, rank, layout.ranks(), library_options(settings, layout)));
    worker.creation_ms = creation.ms();
    return guarded(worker, program);
  } catch (const std::exception& error) {
    board.fail(fmt::format("rank {}: {}", rank, error.what()));
    return failure_status;
  }
}

/// Runs `body` in a child that goes when this process goes, and ends there.
template <typename Body>
pid_t spawn(Body&& body) {
  std::fflush(nullptr);
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child < 0) throw Error(ErrorCode::system, "cannot fork");
  if (child > 0) return child;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(failure_status);
  const int status = body();
  std::fflush(nullptr);
  _exit(status);
}

/// The exit status, or a sentence on the board if a signal ended it.
int status_of(int state, int rank, Board& board) {
  if (WIFEXITED(state)) {
    if (WEXITSTATUS(state) == failure_status) board.fail(fmt::format("rank {}: its process ended early", rank));
    return WEXITSTATUS(state);
  }
  board.fail(fmt::format("rank {}: its process was ended by signal {}", rank, WTERMSIG(state)));
  return failure_status;
}

int collect(std::vector<pid_t> children, Board& board) {
  int worst = 0;
  auto killing = std::chrono::steady_clock::time_point::max();
  for (std::size_t left = children.size(); left > 0; std::this_thread::sleep_for(std::chrono::milliseconds(5))) {
    for (std::size_t rank = 0; rank < children.size(); ++rank) {
      int state = 0;
      if (children[rank] < 0 || waitpid(children[rank], &state, WNOHANG) != children[rank]) continue;
      worst = std::max(worst, status_of(state, static_cast<int>(rank), board));
      children[rank] = -1;
      --left;
    }
    const auto now = std::chrono::steady_clock::now();
    if (board.failed() && killing == std::chrono::steady_clock::time_point::max()) killing = now + grace;
    if (now < killing) continue;
    for (const pid_t child : children)
      if (child > 0) kill(child, SIGKILL);
  }
  return worst;
}

int run_processes(const Settings& settings, const Layout& layout, Board& board, const Program& program) {
  std::vector<pid_t> children;
  for (int rank = 0; rank < layout.processes; ++rank)
    children.push_back(spawn([&] { return run_child(settings, layout, board, rank, program); }));
  return collect(std::move(children), board);
}

}  // namespace

int run_team(const Settings& settings, const Layout& layout, std::size_t figures_per_rank, const Program& program) {
  Board board(layout.workers(), layout.ranks(), figures_per_rank, deadline_s(settings));
  const int status = layout.processes > 0 ? run_processes(settings, layout, board, program) : run_threads(settings, layout, board, program);
  if (board.failed()) {
    fmt::print(stderr, "error: {}\n", board.failure());
    return std::max(status, failure_status);
  }
  return status;
}

Survey survey_gpus_in_child() {
  int ends[2];
  if (pipe(ends) != 0) throw Error(ErrorCode::system, "cannot make a pipe");
  const pid_t child = spawn([&] {
    const Survey survey = survey_gpus();
    const std::string text = fmt::format("{} {}", survey.gpus, survey.why_none);
    return write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? 0 : failure_status;
  });
  close(ends[1]);
  std::string text;
  char buffer[256];
  for (ssize_t got = 0; (got = read(ends[0], buffer, sizeof(buffer))) > 0;) text.append(buffer, static_cast<std::size_t>(got));
  close(ends[0]);
  int state = 0;
  waitpid(child, &state, 0);
  if (text.empty()) return {.gpus = 0, .why_none = "the process that asked CUDA died"};
  const std::size_t space = text.find(' ');
  return {.gpus = std::atoi(text.c_str()), .why_none = space == std::string::npos ? "" : text.substr(space + 1)};
}

}  // namespace perf
