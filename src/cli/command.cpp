#include "cli/command.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <collectives/error.hpp>
#include <collectives/verify.hpp>
#include <exception>

namespace cli {
namespace {

using collectives::Error;
using collectives::ErrorCode;

constexpr Subcommand subcommands[] = {
    {"doctor", "this machine: every link proved by moving data, what is wrong and how to mend it", run_doctor},
    {"topo", "the machine: matrix of peers, tree of switches, what is refused and why", run_topo},
    {"plan", "what a call would do: every candidate, its steps, bytes, time and bound; who sends what when", run_plan},
    {"advise", "which GPUs to use for a model, and how many", run_advise},
    {"tune", "what calls take here, measured, for communicators to plan by", run_tune},
    {"run", "a command on libcollectives instead of NCCL, unchanged", run_run},
};

std::string usage() {
  std::string text = "collectives SUBCOMMAND [options]\n\n";
  for (const Subcommand& each : subcommands) text += fmt::format("  {:<8} {}\n", each.name, each.purpose);
  text +=
      "\n`collectives SUBCOMMAND --help` lists the options. All but run take --json, and topo, plan and advise --machine FILE to work on a "
      "machine that is not this one.\n"
      "Exit status: 0 healthy, 2 hang, 3 wrong data, 4 inconclusive, 5 unusable (bad arguments among it).\n";
  return text;
}

const Subcommand& find(const std::string& name) {
  const auto found =
      std::find_if(std::begin(subcommands), std::end(subcommands), [&](const Subcommand& each) { return name == each.name; });
  if (found != std::end(subcommands)) return *found;
  std::string names;
  for (const Subcommand& each : subcommands) names += fmt::format("{}{}", names.empty() ? "" : ", ", each.name);
  throw Error(ErrorCode::invalid_argument, fmt::format("unknown subcommand '{}': expected one of {}", name, names));
}

Exit dispatch(const Words& words, std::ostream& out) {
  if (words.empty()) throw Error(ErrorCode::invalid_argument, "expected a subcommand\n\n" + usage());
  if (words[0] == "--help" || words[0] == "-h" || words[0] == "help") {
    out << usage();
    return Exit::healthy;
  }
  // The doctor starts its own program with this word for what may hang, so no person needs to know it.
  if (words[0] == "probe") return static_cast<Exit>(collectives::serve_probe(0, 1));
  return find(words[0]).run(Words(words.begin() + 1, words.end()), out);
}

}  // namespace

bool parse(CLI::App& app, const Words& words, std::ostream& out) {
  Words last_first(words.rbegin(), words.rend());
  try {
    app.parse(last_first);
    return true;
  } catch (const CLI::CallForHelp&) {
    out << app.help();
    return false;
  } catch (const CLI::ParseError& error) {
    throw Error(ErrorCode::invalid_argument, fmt::format("{} (--help lists the options)", error.what()));
  }
}

Exit run(const Words& words, std::ostream& out, std::ostream& err) {
  try {
    const Exit exit = dispatch(words, out);
    out.flush();
    if (!out) throw Error(ErrorCode::system, "the answer could not be written");
    return exit;
  } catch (const std::exception& error) {
    err << "collectives: " << error.what() << "\n";
    return Exit::unusable;
  }
}

}  // namespace cli
