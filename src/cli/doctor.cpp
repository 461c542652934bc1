// Looks at this machine as it is: what is claimed, what moving data over every link shows, and whether all-reduces are right.
#include <collectives/verify.hpp>

#include "cli/command.hpp"
#include "cli/diagnosis.hpp"
#include "cli/options.hpp"

namespace cli {
namespace {

using namespace collectives;

constexpr int host_ranks = 4;
constexpr std::uint32_t patience_ms = 5000;

VerifyOptions options_with(const std::string& injection) {
  VerifyOptions options;
  options.prober = {"/proc/self/exe", "probe"};
  if (!injection.empty()) options.injection = parse_injection(injection);
  return options;
}

/// On every GPU, on one GPU twice, or on CPU ranks.
void check_all_reduces(Examination& seen, std::vector<int> devices) {
  const std::vector<std::size_t> sizes = {4, std::size_t{64} << 10, std::size_t{16} << 20};
  if (devices.size() > static_cast<std::size_t>(max_ranks)) devices.resize(static_cast<std::size_t>(max_ranks));
  const bool gpus = !devices.empty();
  if (devices.size() == 1) devices.push_back(devices[0]);
  for (int rank = 0; !gpus && rank < host_ranks; ++rank) devices.push_back(rank);
  seen.ranks = static_cast<int>(devices.size());
  Options options;
  options.backend = gpus ? Backend::cuda : Backend::host;
  options.timeout_ms = patience_ms;
  seen.all_reduce = check_all_reduce(devices, options, sizes);
  if (!gpus) return;
  options.mode = PeerMode::host;
  seen.control = check_all_reduce(devices, options, sizes);
}

}  // namespace

Exit run_doctor(const Words& words, std::ostream& out) {
  CLI::App app("Looks at this machine: every link proved by moving data, all-reduces checked, what is wrong and how to mend it", "collectives doctor");
  bool json = false;
  std::string injection;
  app.add_flag("--json", json, "for programs");
  app.add_option("--inject", injection, "put a fault into one link, to see that it is found: drop, delay, corrupt or hang, then :0-1")->group("");
  app.footer("Verdicts are kept for a month, and communicators plan by them. Exit status: 0 healthy, 2 hang, 3 wrong data, 4 inconclusive, 5 unusable.");
  if (!parse(app, words, out)) return Exit::healthy;

  Examination seen;
  // CUDA comes up in the verifier's child while this process looks at the machine.
  LinkVerifier verifier(options_with(injection));
  seen.machine = detect_machine();
  seen.surroundings = look_around();
  seen.verification = verifier.verify(seen.machine);
  if (injection.empty()) (void)cache_verification(seen.machine, seen.verification);
  check_all_reduces(seen, devices_of(seen.machine, 0));
  const Diagnosis diagnosis = diagnose(seen);
  out << (json ? to_json(seen, diagnosis) : to_text(seen, diagnosis));
  return diagnosis.exit;
}

}  // namespace cli
