// Looks at this machine as it is: what is claimed, what moving data over every link shows, and whether all-reduces are right.
#include "cli/command.hpp"
#include "cli/diagnosis.hpp"
#include "cli/examine.hpp"
#include "cli/options.hpp"

namespace cli {

Exit run_doctor(const Words& words, std::ostream& out) {
  CLI::App app("Looks at this machine: every link proved by moving data, all-reduces checked, what is wrong and how to mend it", "collectives doctor");
  bool json = false;
  std::string injection;
  app.add_flag("--json", json, "for programs");
  app.add_option("--inject", injection, "put a fault into one link, to see that it is found: drop, delay, corrupt or hang, then :0-1")->group("");
  app.footer("Verdicts are kept for a month, and communicators plan by them. Exit status: 0 healthy, 2 hang, 3 wrong data, 4 inconclusive, 5 unusable.");
  if (!parse(app, words, out)) return Exit::healthy;

  collectives::VerifyOptions options;
  options.prober = {"/proc/self/exe", "probe"};
  if (!injection.empty()) options.injection = collectives::parse_injection(injection);
  const Examination seen = examine(options, collectives::detect_machine);
  const Diagnosis diagnosis = diagnose(seen);
  out << (json ? to_json(seen, diagnosis) : to_text(seen, diagnosis));
  return diagnosis.exit;
}

}  // namespace cli
