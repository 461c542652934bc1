#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/diagnosis.hpp"
#include "cli/text.hpp"

namespace cli {
namespace {

using namespace collectives;

constexpr Method methods[] = {Method::store, Method::load, Method::copy_engine, Method::flag};

const char* name_of(Exit exit) {
  constexpr const char* names[] = {"healthy", "", "hang", "wrong data", "inconclusive", "unusable"};
  return names[static_cast<int>(exit)];
}

std::string version(int cuda) { return cuda == 0 ? "none" : fmt::format("{}.{}", cuda / 1000, cuda % 1000 / 10); }

std::string environment_text(const Examination& seen) {
  const Surroundings& around = seen.surroundings;
  const Machine& machine = seen.machine;
  std::string text = fmt::format("Environment\n  driver {}, CUDA runtime {}, driver serves {}\n", machine.driver.empty() ? "none" : printable(machine.driver),
                                 version(around.cuda_runtime), version(around.cuda_driver));
  text += fmt::format("  CUDA_VISIBLE_DEVICES {}\n", around.visible_devices.empty() ? "not set" : printable(around.visible_devices));
  text += fmt::format("  {}, {}; IOMMU {}\n", machine.hypervisor.empty() ? "no virtual machine seen" : "virtual machine under " + printable(machine.hypervisor),
                      around.container ? "in a container" : "no container seen", machine.iommu.empty() ? "not known" : printable(machine.iommu));
  text += fmt::format("  lockable memory {}; /dev/shm {} (this library puts no buffers there)\n",
                      around.lockable_bytes ? bytes_in_words(static_cast<double>(*around.lockable_bytes)) : "unlimited", bytes_in_words(static_cast<double>(around.shm_bytes)));
  if (!around.why_no_gpu.empty()) text += fmt::format("  no GPU: {}\n", printable(around.why_no_gpu));
  return text;
}

std::string gpus_text(const Machine& machine) {
  if (machine.gpus().empty()) return {};
  std::vector<std::vector<std::string>> rows = {{"GPU", "name", "address", "NUMA", "memory", "BAR1", "MIG"}};
  for (const int gpu : machine.gpus()) {
    const Node& node = machine.nodes[static_cast<std::size_t>(gpu)];
    rows.push_back({label_of(machine, gpu), printable(node.name), printable(node.pci), node.numa < 0 ? "?" : fmt::format("{}", node.numa),
                    bytes_in_words(static_cast<double>(node.memory_bytes)), node.bar1_bytes == 0 ? "?" : bytes_in_words(static_cast<double>(node.bar1_bytes)),
                    node.mig ? "yes" : "no"});
  }
  return "\nGPUs\n" + aligned(rows, false);
}

std::string figure(double value) { return value > 0 ? rounded(value) : "-"; }

std::string links_text(const Examination& seen) {
  if (seen.machine.peers.empty()) return {};
  std::vector<std::vector<std::string>> rows = {{"pair", "claim", "store", "load", "copy", "flag", "GB/s store", "load", "copy", "flag us"}};
  for (const Peer& peer : seen.machine.peers) {
    const DevicePair pair{seen.machine.nodes[static_cast<std::size_t>(peer.from)].device, seen.machine.nodes[static_cast<std::size_t>(peer.to)].device};
    std::vector<std::string> row = {fmt::format("{}>{}", label_of(seen.machine, peer.from), label_of(seen.machine, peer.to)),
                                    peer.access ? (peer.path.empty() ? "yes" : printable(peer.path)) : "no"};
    for (const Method method : methods) {
      const LinkVerdict* link = seen.verification.find(pair, method);
      row.push_back(link ? collectives::name_of(link->verdict) : "-");
    }
    for (const Method method : methods) {
      const LinkVerdict* link = seen.verification.find(pair, method);
      row.push_back(figure(!link ? 0 : method == Method::flag ? link->latency_us : link->gb_per_s));
    }
    rows.push_back(std::move(row));
  }
  std::string text = "\nLinks: what is claimed, what moving data showed, and how fast it went\n" + aligned(rows, false);
  const auto& flows = seen.verification.flows;
  if (!flows.empty())
    text += fmt::format("{} pairs of flows at once, {} of them collapsed\n", flows.size(),
                        std::count_if(flows.begin(), flows.end(), [](const FlowVerdict& flow) { return flow.collapsed; }));
  return text;
}

std::string outcome(const AllReduceCheck& check) {
  if (check.right) return "right";
  if (!check.error.empty()) return check.timed_out ? "hang" : "failed";
  return fmt::format("{} wrong", check.wrong_elements);
}

std::string all_reduce_text(const Examination& seen) {
  std::vector<std::vector<std::string>> rows = {{"size", "algorithm", "result", "us"}};
  if (!seen.control.empty()) rows[0].insert(rows[0].end(), {"control", "us"});
  for (std::size_t i = 0; i < seen.all_reduce.size(); ++i) {
    const AllReduceCheck& check = seen.all_reduce[i];
    rows.push_back({bytes_in_words(static_cast<double>(check.bytes)), check.plan, outcome(check), figure(check.us)});
    if (i < seen.control.size()) rows.back().insert(rows.back().end(), {outcome(seen.control[i]), figure(seen.control[i].us)});
  }
  return fmt::format("\nAll-reduce of {} {} ranks, checked element by element{}\n", seen.ranks, seen.control.empty() ? "CPU" : "GPU",
                     seen.control.empty() ? "" : "; the control goes through host memory") +
         aligned(rows, false);
}

nlohmann::ordered_json json_of(const std::vector<AllReduceCheck>& checks) {
  auto json = nlohmann::ordered_json::array();
  for (const AllReduceCheck& check : checks)
    json.push_back({{"bytes", check.bytes}, {"algorithm", check.plan}, {"result", outcome(check)}, {"wrong_elements", check.wrong_elements}, {"us", check.us}, {"error", check.error}});
  return json;
}

nlohmann::ordered_json json_of(DevicePair pair) { return nlohmann::ordered_json::array({pair.from, pair.to}); }

}  // namespace

std::string to_text(const Examination& seen, const Diagnosis& diagnosis) {
  std::string text = environment_text(seen) + gpus_text(seen.machine) + links_text(seen) + all_reduce_text(seen) + "\n";
  for (const Finding& finding : diagnosis.findings) {
    text += "- " + finding.what + "\n";
    if (!finding.remedy.empty()) text += "  what may help: " + finding.remedy + "\n";
  }
  return text + fmt::format("{}: {}\n", diagnosis.findings.empty() ? "Nothing is wrong" : "In all", name_of(diagnosis.exit));
}

std::string to_json(const Examination& seen, const Diagnosis& diagnosis) {
  using Json = nlohmann::ordered_json;
  const Surroundings& around = seen.surroundings;
  Json json = {{"verdict", name_of(diagnosis.exit)},
               {"exit_status", static_cast<int>(diagnosis.exit)},
               {"environment",
                {{"cuda_runtime", around.cuda_runtime},
                 {"cuda_driver", around.cuda_driver},
                 {"visible_devices", around.visible_devices},
                 {"why_no_gpu", around.why_no_gpu},
                 {"container", around.container},
                 {"lockable_bytes", around.lockable_bytes ? Json(*around.lockable_bytes) : Json(nullptr)},
                 {"shm_bytes", around.shm_bytes}}},
               {"machine", Json::parse(collectives::to_json(seen.machine))},
               {"links", Json::array()},
               {"flows", Json::array()},
               {"all_reduce", {{"ranks", seen.ranks}, {"checks", json_of(seen.all_reduce)}, {"control", json_of(seen.control)}}},
               {"findings", Json::array()},
               {"ms", Json::object()}};
  for (const LinkVerdict& link : seen.verification.links)
    json["links"].push_back({{"pair", json_of(link.pair)},
                             {"method", collectives::name_of(link.method)},
                             {"verdict", collectives::name_of(link.verdict)},
                             {"first_bad_offset", link.first_bad_offset},
                             {"gb_per_s", link.gb_per_s},
                             {"latency_us", link.latency_us},
                             {"reason", link.reason}});
  for (const FlowVerdict& flow : seen.verification.flows)
    json["flows"].push_back({{"pairs", Json::array({json_of(flow.first), json_of(flow.second)})},
                             {"method", collectives::name_of(flow.method)},
                             {"gb_per_s", flow.gb_per_s},
                             {"predicted", flow.predicted},
                             {"collapsed", flow.collapsed}});
  for (const Finding& finding : diagnosis.findings) json["findings"].push_back({{"what", finding.what}, {"remedy", finding.remedy}});
  for (const StageTime& time : seen.times) json["ms"][time.stage] = time.ms;
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace cli
