// plan_perf FILE...: what is planned for 256 MB on all GPUs of each described machine, how near that is to what is proved possible, and
// how long planning takes. Needs no GPU. Exit status 1 if a plan took more than 100 ms.
#include <fmt/format.h>
#include <algorithm>
#include <chrono>
#include <collectives/error.hpp>
#include <collectives/plan.hpp>
#include <vector>

namespace {

using namespace collectives;

constexpr std::size_t count = std::size_t{128} << 20;
constexpr double limit_ms = 100;

std::vector<int> devices_of(const Machine& machine) {
  std::vector<int> devices;
  for (const int gpu : machine.gpus())
    if (const int device = machine.nodes[static_cast<std::size_t>(gpu)].device; device >= 0) devices.push_back(device);
  return devices;
}

/// The median of five, in ms, and the last report.
double time_plan(const Machine& machine, const std::vector<int>& devices, PlanReport& report) {
  std::vector<double> ms;
  for (int run = 0; run < 5; ++run) {
    const auto began = std::chrono::steady_clock::now();
    report = plan_all_reduce(machine, devices, count, DataType::bfloat16, ReduceOp::sum);
    ms.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - began).count());
  }
  std::nth_element(ms.begin(), ms.begin() + 2, ms.end());
  return ms[2];
}

/// How many times as long the best ring takes.
double over_ring(const PlanReport& report) {
  for (const Candidate& candidate : report.candidates)
    if (candidate.choice.algorithm == Algorithm::ring) return candidate.predicted_us / report.plan.predicted_us;
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  bool in_time = true;
  fmt::print("{:<52} {:>5} {:<14} {:>8} {:>7} {:>9} {:>8}\n", "machine", "ranks", "plan", "bus GB/s", "gap", "over ring", "ms");
  for (int i = 1; i < argc; ++i) {
    const std::string path = argv[i], file = path.substr(path.rfind('/') + 1).substr(0, 52);
    try {
      const Machine machine = read_machine_file(path);
      const auto devices = devices_of(machine);
      if (devices.size() < 2) continue;
      PlanReport report;
      const double ms = time_plan(machine, devices, report);
      const double n = static_cast<double>(devices.size());
      const double bus = 2 * (n - 1) / n * static_cast<double>(report.plan.bytes) / report.plan.predicted_us / 1e3;
      fmt::print("{:<52} {:>5} {:<14} {:>8.1f} {:>5.1f} % {:>9.2f} {:>8.2f}\n", file, devices.size(), to_string(report.plan.choice), bus,
                 100 * report.candidates[0].gap, over_ring(report), ms);
      in_time = in_time && ms <= limit_ms;
    } catch (const Error& error) {
      fmt::print("{:<52} {}\n", file, error.what());
    }
  }
  return in_time ? 0 : 1;
}
