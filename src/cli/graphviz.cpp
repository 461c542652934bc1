#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <collectives/error.hpp>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <memory>

#include "cli/drawing.hpp"
#include "cli/text.hpp"

namespace cli {
namespace {

using collectives::Error;
using collectives::ErrorCode;

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

/// A file without a name, which the child reads or writes: no pipe can fill up, and nothing signals a broken one.
File nameless_file() {
  File file(std::tmpfile(), std::fclose);
  if (!file) throw Error(ErrorCode::system, fmt::format("cannot make a temporary file: {}", std::strerror(errno)));
  return file;
}

class FileActions {
 public:
  FileActions() { posix_spawn_file_actions_init(&actions_); }
  ~FileActions() { posix_spawn_file_actions_destroy(&actions_); }
  FileActions(const FileActions&) = delete;
  FileActions& operator=(const FileActions&) = delete;
  void connect(std::FILE* file, int to) { posix_spawn_file_actions_adddup2(&actions_, fileno(file), to); }
  const posix_spawn_file_actions_t* get() const { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_{};
};

std::string beginning_of(std::FILE* file) {
  char text[400];
  std::rewind(file);
  return printable(std::string_view(text, std::fread(text, 1, sizeof text, file)));
}

int wait_for(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) throw Error(ErrorCode::system, fmt::format("cannot wait for dot: {}", std::strerror(errno)));
  return status;
}

}  // namespace

void write_svg(const std::string& dot, const std::string& path) {
  const File in = nameless_file(), said = nameless_file();
  if (std::fwrite(dot.data(), 1, dot.size(), in.get()) != dot.size() || std::fflush(in.get()) != 0 ||
      std::fseek(in.get(), 0, SEEK_SET) != 0)
    throw Error(ErrorCode::system, "cannot write a temporary file");
  FileActions actions;
  actions.connect(in.get(), STDIN_FILENO);
  actions.connect(said.get(), STDERR_FILENO);
  const std::string out = "-o" + path;
  const char* const words[] = {"dot", "-Tsvg", out.c_str(), nullptr};
  pid_t child = 0;
  const int failure = posix_spawnp(&child, "dot", actions.get(), nullptr, const_cast<char* const*>(words), environ);
  if (failure == ENOENT)
    throw Error(ErrorCode::unsupported,
                "there is no program `dot` here to draw with: install the package graphviz, or take --dot and draw it elsewhere");
  if (failure != 0) throw Error(ErrorCode::system, fmt::format("cannot run dot: {}", std::strerror(failure)));
  const int status = wait_for(child);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    throw Error(ErrorCode::system, fmt::format("dot could not draw {}: {}", path, beginning_of(said.get())));
}

}  // namespace cli
