#include "cli/examine.hpp"

#include <chrono>

#include "cli/options.hpp"

namespace cli {
namespace {

using namespace collectives;

constexpr int host_ranks = 4;

/// On every GPU, on one GPU twice, or on CPU ranks, which need no child.
void check_all_reduces(Examination& seen, LinkVerifier& verifier) {
  const std::vector<std::size_t> sizes = {4, std::size_t{64} << 10, std::size_t{16} << 20};
  std::vector<int> devices = devices_of(seen.machine, 0);
  const bool gpus = !devices.empty();
  if (devices.size() > static_cast<std::size_t>(max_ranks)) devices.resize(static_cast<std::size_t>(max_ranks));
  if (devices.size() == 1) devices.push_back(devices[0]);
  for (int rank = 0; !gpus && rank < host_ranks; ++rank) devices.push_back(rank);
  seen.ranks = static_cast<int>(devices.size());
  if (gpus) {
    seen.all_reduce = verifier.check_all_reduce(devices, false, sizes);
    seen.control = verifier.check_all_reduce(devices, true, sizes);
    return;
  }
  Options options;
  options.backend = Backend::host;
  options.timeout_ms = 5000;
  seen.all_reduce = check_all_reduce(devices, options, sizes);
}

}  // namespace

Examination examine(const VerifyOptions& options, const std::function<Machine()>& look) {
  const auto begun = std::chrono::steady_clock::now();
  const auto ms_since_begin = [begun] { return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begun).count(); };
  Examination seen;
  LinkVerifier verifier(options);
  seen.machine = look();
  seen.surroundings = look_around();
  seen.times.push_back({"look at the machine", ms_since_begin()});
  seen.verification = verifier.verify(seen.machine);
  if (!options.injection) (void)cache_verification(seen.machine, seen.verification);
  check_all_reduces(seen, verifier);
  verifier.abandon();
  seen.times.insert(seen.times.end(), verifier.times().begin(), verifier.times().end());
  seen.times.push_back({"all", ms_since_begin()});
  return seen;
}

}  // namespace cli
