#pragma once

#include <CLI/CLI.hpp>
#include <ostream>
#include <string>
#include <vector>

namespace cli {

/// The exit status. 1 is left to the shell and to crashes.
enum class Exit : int {
  healthy = 0,
  hang = 2,          ///< something that should have ended did not
  wrong_data = 3,    ///< data arrived, but not what was sent
  inconclusive = 4,  ///< nothing bad was seen, but not all could be looked at
  unusable = 5,      ///< no answer: bad arguments, an unreadable file, nothing to work on
};

/// What follows a subcommand's name.
using Words = std::vector<std::string>;

/// A subcommand is one file with one entry: it parses its words, prints its answer to `out`, and throws what keeps it from
/// answering. `subcommands` in command.cpp lists them all.
struct Subcommand {
  const char* name;
  const char* purpose;
  Exit (*run)(const Words& words, std::ostream& out);
};

Exit run_advise(const Words& words, std::ostream& out);
Exit run_doctor(const Words& words, std::ostream& out);
Exit run_plan(const Words& words, std::ostream& out);
Exit run_run(const Words& words, std::ostream& out);
Exit run_topo(const Words& words, std::ostream& out);
Exit run_tune(const Words& words, std::ostream& out);

/// Parses the words into what `app` was told to fill. False if they asked for help, which is then printed. Throws
/// Error(invalid_argument) with what is wrong.
bool parse(CLI::App& app, const Words& words, std::ostream& out);

/// The whole command, without the name of the program. Throws nothing: an error goes to `err` in one line and gives `unusable`.
Exit run(const Words& words, std::ostream& out, std::ostream& err);

}  // namespace cli
