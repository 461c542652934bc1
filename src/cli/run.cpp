// collectives run -- COMMAND: the command with our libnccl.so.2 in front of NCCL's.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <collectives/error.hpp>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "cli/command.hpp"

namespace cli {
namespace {

using collectives::Error;
using collectives::ErrorCode;
namespace fs = std::filesystem;

constexpr const char* library_name = "libnccl.so.2";

/// The library beside this command, where it was built or installed.
fs::path find_library() {
  const fs::path here = fs::read_symlink("/proc/self/exe").parent_path();
  std::string tried;
  for (const char* folder : {"../lib/nccl", COLLECTIVES_NCCL_FOLDER}) {
    const fs::path file = (here / folder / library_name).lexically_normal();
    if (fs::exists(file)) return file;
    tried += fmt::format("{}{}", tried.empty() ? "" : ", ", file.string());
  }
  throw Error(ErrorCode::unsupported, fmt::format("no {} beside this command ({}): --library names it", library_name, tried));
}

void set(const char* name, const char* value) {
  if (::setenv(name, value, 1) != 0) throw Error(ErrorCode::system, fmt::format("setenv {}: {}", name, std::strerror(errno)));
}

void choose(const std::string& mode) {
  if (mode == "auto") set("COLLECTIVES_P2P", "auto");
  if (mode == "p2p") set("COLLECTIVES_P2P", "required");
  if (mode == "host") set("COLLECTIVES_P2P", "off");
  if (mode == "nccl") set("COLLECTIVES_DISABLE", "1");
}

}  // namespace

Exit run_run(const Words& words, std::ostream& out) {
  CLI::App app("A command on libcollectives instead of NCCL: its calls go to our libnccl.so.2", "collectives run");
  std::string mode, library;
  bool quiet = false, each_rank = false;
  // What follows -- is the command's own, its options too.
  const auto dashes = std::find(words.begin(), words.end(), "--");
  app.add_option("--mode", mode, "auto: peer access where it is good; p2p: an error where it is missing; host: none, through host memory; nccl: every call to NCCL, for "
                                  "comparison. Default: what COLLECTIVES_P2P says, else auto")
      ->check(CLI::IsMember({"auto", "p2p", "host", "nccl"}));
  app.add_option("--library", library, "the libnccl.so.2 to put in front")->type_name("FILE");
  app.add_option("--fallback", [](const CLI::results_t& files) { set("COLLECTIVES_NCCL_FALLBACK", files.front().c_str()); return true; },
                 "NCCL's own libnccl.so.2, for what libcollectives does not do")->type_name("FILE");
  auto* silence = app.add_flag("--quiet", quiet, "no summary of its calls when a process ends");
  app.add_flag("--ranks", each_rank, "a summary for each rank")->excludes(silence);
  app.footer("collectives run [options] -- COMMAND [its options]");
  if (!parse(app, Words(words.begin(), dashes), out)) return Exit::healthy;
  if (dashes == words.end() || dashes + 1 == words.end()) throw Error(ErrorCode::invalid_argument, "expected -- and a command to run");
  const fs::path file = library.empty() ? find_library() : fs::absolute(library);
  if (!fs::exists(file)) throw Error(ErrorCode::invalid_argument, fmt::format("{}: no such library", file.string()));
  choose(mode);
  if (!quiet) set("COLLECTIVES_SUMMARY", each_rank ? "ranks" : "1");
  out.flush();

  // A shell keeps what the caller preloads already behind ours.
  Words command{"/bin/sh", "-c", "LD_PRELOAD=\"$0${LD_PRELOAD:+:$LD_PRELOAD}\"; export LD_PRELOAD; exec \"$@\"", file.string()};
  command.insert(command.end(), dashes + 1, words.end());
  std::vector<char*> arguments;
  for (std::string& word : command) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  ::execv(arguments[0], arguments.data());
  throw Error(ErrorCode::system, fmt::format("{}: {}", command[0], std::strerror(errno)));
}

}  // namespace cli
