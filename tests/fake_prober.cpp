#include "fake_prober.hpp"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "base/require.hpp"
#include "comm/check.hpp"
#include "topology/verify_serve.hpp"

namespace collectives {
namespace {

/// 20 GB/s and 2 us everywhere, but for its faults.
class FakeProber final : public LinkProber {
 public:
  explicit FakeProber(const std::vector<std::string>& faults) : faults_(faults) {}

  std::vector<Report> run(const ProbeStep& step) override {
    std::vector<Report> reports;
    for (const DevicePair pair : step.pairs) {
      reports.push_back(one(step, pair));
      link_failed = link_failed || reports.back().verdict != Verdict::ok;
    }
    return reports;
  }

  /// In this process.
  inline static bool link_failed = false;

 private:
  bool has(const char* what, Method method, DevicePair pair) const {
    const std::string fault = std::string(what) + ":" + name_of(method) + ":" + std::to_string(pair.from) + "-" + std::to_string(pair.to);
    return std::find(faults_.begin(), faults_.end(), fault) != faults_.end();
  }

  Report one(const ProbeStep& step, DevicePair pair) const {
    Report report{step.id, pair, Verdict::ok, -1, 0, {}};
    if (step.probe != Probe::check) {
      report.figure = step.probe == Probe::latency ? 2 : 20;
      if (has("crawl", step.method, pair) || (step.pairs.size() == 2 && has("slow", step.method, pair))) report.figure = 1;
      return report;
    }
    if (has("hang", step.method, pair))
      for (;;) ::pause();
    if (has("die", step.method, pair)) ::raise(SIGKILL);
    require(!has("throw", step.method, pair), "the GPU is in error", ErrorCode::device);
    if (has("wrong", step.method, pair)) report = {step.id, pair, Verdict::wrong_data, 4096, 0, "not what was sent"};
    if (has("late", step.method, pair)) report = {step.id, pair, Verdict::hang, -1, 0, "no flag"};
    if (has("refused", step.method, pair)) report = {step.id, pair, Verdict::refused, -1, 0, "CUDA says no"};
    return report;
  }

  const std::vector<std::string> faults_;
};

std::string this_program() { return std::filesystem::read_symlink("/proc/self/exe").string(); }

}  // namespace

std::vector<std::string> real_prober() { return {this_program(), "probe"}; }

std::vector<std::string> fake_prober(const std::vector<std::string>& faults) {
  std::vector<std::string> command = {this_program(), "fake-probe"};
  command.insert(command.end(), faults.begin(), faults.end());
  return command;
}

int serve_fake_probe(const std::vector<std::string>& faults) {
  const auto has = [&](const std::string& fault) { return std::find(faults.begin(), faults.end(), fault) != faults.end(); };
  const auto make = [&](const std::optional<Injection>&) -> std::unique_ptr<LinkProber> {
    if (has("comatose"))
      for (;;) ::pause();
    require(!has("stillborn"), "no GPU today", ErrorCode::unsupported);
    return std::make_unique<FakeProber>(faults);
  };
  const auto check = [&](const AllReduceStep& step, const std::function<void(const AllReduceCheck&)>& tell) {
    require(!FakeProber::link_failed, "all-reduces in a child in which a link failed");
    const std::string arm = step.through_host ? ":host:" : ":all_reduce:";
    Options options;
    options.backend = Backend::host;
    if (step.through_host) options.mode = PeerMode::host;
    for (const std::size_t bytes : step.bytes) {
      const std::string stage = arm + std::to_string(bytes);
      if (has("hang" + stage))
        for (;;) ::pause();
      if (has("die" + stage)) ::raise(SIGKILL);
      require(!has("throw" + stage), "no memory", ErrorCode::out_of_memory);
      check_all_reduce(step.devices, options, {std::min<std::size_t>(bytes, 65536)}, [&](AllReduceCheck check) {
        check.bytes = bytes;
        tell(check);
      });
    }
    if (has("complain")) std::fprintf(stderr, "the prober complains\n");
  };
  const int status = serve_steps(0, 1, {.make_prober = make, .check_all_reduce = check});
  char byte;
  for (const std::string& fault : faults)
    if (fault.starts_with("stay:")) (void)!::read(std::stoi(fault.substr(5)), &byte, 1);
  return status;
}

}  // namespace collectives
