#pragma once

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "cli/command.hpp"
#include "machines.hpp"

/// What the command `collectives` did when it was asked this.
struct Answer {
  cli::Exit exit;
  std::string out;
  std::string err;
};

inline Answer ask(const cli::Words& words) {
  std::ostringstream out, err;
  const cli::Exit exit = cli::run(words, out, err);
  return {exit, out.str(), err.str()};
}

/// The same of a machine under tests/machines: the subcommand, --machine FILE, then the rest.
inline Answer ask_of(const std::string& machine, cli::Words words) {
  words.insert(words.begin() + 1, {"--machine", machine_path(machine)});
  return ask(words);
}
