// Lets ranks on this machine measure what their calls take, and keeps that for the programs that run here.
#include <fmt/format.h>

#include <algorithm>
#include <collectives/communicator.hpp>
#include <exception>
#include <nlohmann/json.hpp>
#include <numeric>
#include <thread>

#include "cli/command.hpp"
#include "cli/options.hpp"
#include "cli/text.hpp"

namespace cli {
namespace {

using namespace collectives;
using nlohmann::ordered_json;

constexpr int usual_host_ranks = 4;

struct Request {
  std::string gpus, collectives = "all_reduce", largest = "64M";
  std::vector<int> groups;
  int host_ranks = 0;
  std::uint32_t budget_ms = TuneOptions{}.budget_ms;
  bool passing = false, json = false;
};

/// One communicator's ranks, and what came of tuning them.
struct Tuned {
  bool on_host = false;
  std::vector<int> devices;
  TuneReport report;
};

TuneOptions options_of(const Request& words) {
  TuneOptions options{.collectives = {}, .budget_ms = words.budget_ms, .keep = !words.passing};
  std::size_t begin = 0;
  for (std::size_t end = 0; end != std::string::npos; begin = end + 1) {
    end = words.collectives.find(',', begin);
    options.collectives.push_back(parse_collective(std::string_view(words.collectives).substr(begin, end == std::string::npos ? end : end - begin)));
  }
  const std::size_t largest = parse_bytes(words.largest);
  std::erase_if(options.sizes, [&](std::size_t bytes) { return bytes > largest; });
  if (options.sizes.empty()) throw Error(ErrorCode::invalid_argument, fmt::format("--largest {}: expected 1K at least", words.largest));
  return options;
}

/// The ranks to tune: all in one communicator, or as many at a time as the words say, in their order.
std::vector<Tuned> groups_of(const Request& words) {
  std::vector<int> devices;
  if (words.host_ranks == 0) {
    const Machine machine = detect_machine();
    devices = words.gpus.empty() ? devices_of(machine, 0) : parse_devices(words.gpus);
    if (!words.gpus.empty()) require_devices(machine, devices);
  }
  const bool on_host = devices.empty();
  if (on_host) devices.resize(static_cast<std::size_t>(words.host_ranks == 0 ? usual_host_ranks : words.host_ranks));
  if (on_host) std::iota(devices.begin(), devices.end(), 0);
  if (devices.size() < 2) throw Error(ErrorCode::unsupported, "there is one rank to tune, which has nothing to choose: expected two GPUs, or --host N for CPU ranks");
  std::vector<Tuned> groups;
  for (const int size : words.groups.empty() ? std::vector<int>{static_cast<int>(devices.size())} : words.groups) {
    if (size < 2 || static_cast<std::size_t>(size) > devices.size())
      throw Error(ErrorCode::invalid_argument, fmt::format("--tp {}: expected 2 to {}", size, devices.size()));
    for (auto at = devices.begin(); devices.end() - at >= size; at += size) groups.push_back({on_host, {at, at + size}, {}});
  }
  return groups;
}

void tune(Tuned& tuned, const TuneOptions& options) {
  Options as;
  as.backend = tuned.on_host ? Backend::host : Backend::cuda;
  auto ranks = Communicator::create_local(tuned.devices, as);
  std::vector<std::exception_ptr> failures(ranks.size());
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < ranks.size(); ++rank)
    threads.emplace_back([&, rank] {
      try {
        const TuneReport report = ranks[rank].tune(options);
        if (rank == 0) tuned.report = report;
      } catch (...) {
        failures[rank] = std::current_exception();
      }
    });
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& failure : failures)
    if (failure) std::rethrow_exception(failure);
}

std::string name_of_choice(AlgorithmChoice choice, bool through_host) { return to_string(choice) + (through_host ? " (host memory)" : ""); }

double measured_us(const TunedSize& size, const Plan& plan) {
  for (const TunedCandidate& candidate : size.candidates)
    if (candidate.choice == plan.choice && candidate.through_host == plan.through_host) return candidate.measured_us;
  return 0;
}

std::string figure(double us) { return us > 0 ? fmt::format("{:.2f}", us) : "-"; }

std::string text_of(const Tuned& tuned) {
  const TuneReport& report = tuned.report;
  std::string out = tuned.on_host ? fmt::format("{} CPU ranks", tuned.devices.size()) : fmt::format("GPUs {}", fmt::join(tuned.devices, ","));
  out += fmt::format(": {} in {:.0f} ms, {}.\n\n", report.complete ? "all that may be the fastest was measured" : "the time was up before all was measured", report.took_ms,
                     report.kept ? "kept for communicators on the same ranks" : "not kept");
  std::vector<std::vector<std::string>> rows = {{"collective", "type", "size", "before", "after", "predicted us", "measured us", "measured beside it, us"}};
  for (const TunedSize& size : report.sizes) {
    std::string others;
    for (const TunedCandidate& candidate : size.candidates)
      if (candidate.measured_us > 0 && !(candidate.choice == size.after.choice && candidate.through_host == size.after.through_host))
        others += fmt::format("{}{} {:.2f}", others.empty() ? "" : ", ", name_of_choice(candidate.choice, candidate.through_host), candidate.measured_us);
    rows.push_back({name_of(size.request.collective), name_of(size.request.type), bytes_in_words(static_cast<double>(size.before.bytes)),
                    name_of_choice(size.before.choice, size.before.through_host), name_of_choice(size.after.choice, size.after.through_host), figure(size.before.predicted_us),
                    figure(measured_us(size, size.after)), others});
  }
  return out + aligned(rows, true);
}

ordered_json json_of(const Tuned& tuned) {
  const auto plan_of = [](const TunedSize& size, const Plan& plan) {
    return ordered_json{{"algorithm", to_string(plan.choice)}, {"through_host", plan.through_host}, {"predicted_us", plan.predicted_us}, {"measured_us", measured_us(size, plan)}};
  };
  ordered_json sizes = ordered_json::array();
  for (const TunedSize& size : tuned.report.sizes) {
    ordered_json candidates = ordered_json::array();
    for (const TunedCandidate& candidate : size.candidates)
      candidates.push_back({{"algorithm", to_string(candidate.choice)}, {"through_host", candidate.through_host}, {"modelled_us", candidate.modelled_us}, {"measured_us", candidate.measured_us}});
    sizes.push_back({{"collective", name_of(size.request.collective)}, {"type", name_of(size.request.type)}, {"bytes", size.before.bytes},
                     {"before", plan_of(size, size.before)}, {"after", plan_of(size, size.after)}, {"candidates", candidates}});
  }
  return {{"backend", tuned.on_host ? "host" : "cuda"}, {"devices", tuned.devices}, {"took_ms", tuned.report.took_ms},
          {"complete", tuned.report.complete}, {"kept", tuned.report.kept}, {"sizes", sizes}};
}

}  // namespace

Exit run_tune(const Words& words, std::ostream& out) {
  CLI::App app("Lets ranks on this machine measure what their calls take, and keeps that for a month: communicators on the same ranks plan by it", "collectives tune");
  Request given;
  app.add_flag("--json", given.json, "for programs");
  app.add_option("--gpus", given.gpus, "CUDA ordinals of ranks 0, 1, ...; default: all, or CPU ranks where there is none")->type_name("0,1,2");
  app.add_option("--tp", given.groups, "ranks of a communicator; with more GPUs than that, groups of so many in their order; several with commas")->delimiter(',')->type_name("N");
  app.add_option("--host", given.host_ranks, "CPU ranks, so many")->check(CLI::Range(2, 16))->type_name("N");
  app.add_option("--collectives", given.collectives, "all_reduce, reduce_scatter, all_gather, broadcast, reduce, with commas")->capture_default_str();
  app.add_option("--largest", given.largest, "size of a message")->type_name("SIZE")->capture_default_str();
  app.add_option("--budget-ms", given.budget_ms, "of each communicator")->capture_default_str();
  app.add_flag("--no-keep", given.passing, "only look");
  app.footer("Nothing else should run on the machine meanwhile. COLLECTIVES_TUNED=0 plans by the model alone. Exit status: 0 all was measured, 4 the time was up before, 5 unusable.");
  if (!parse(app, words, out)) return Exit::healthy;

  const TuneOptions options = options_of(given);
  std::vector<Tuned> groups = groups_of(given);
  for (Tuned& group : groups) tune(group, options);
  ordered_json all = ordered_json::array();
  for (const Tuned& group : groups) all.push_back(json_of(group));
  if (given.json) out << all.dump(2) << "\n";
  for (const Tuned& group : groups)
    if (!given.json) out << (&group == &groups.front() ? "" : "\n") << text_of(group);
  return std::all_of(groups.begin(), groups.end(), [](const Tuned& group) { return group.report.complete; }) ? Exit::healthy : Exit::inconclusive;
}

}  // namespace cli
