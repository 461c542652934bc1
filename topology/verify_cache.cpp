#include "topology/verify_cache.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "base/log.hpp"
#include "base/require.hpp"
#include "topology/cache_file.hpp"

namespace collectives {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr int format = 1;

std::string line_of(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::string lasting_name(const Node& node) { return node.uuid.empty() ? node.pci : node.uuid; }

std::map<std::string, int> devices_by_name(const Machine& machine) {
  std::map<std::string, int> devices;
  for (const Node& node : machine.nodes)
    if (node.kind == NodeKind::gpu && node.device >= 0 && !lasting_name(node).empty()) devices[lasting_name(node)] = node.device;
  return devices;
}

Json to_json(const LinkVerdict& link, const Machine& machine) {
  return {{"from", lasting_name(machine, link.pair.from)}, {"to", lasting_name(machine, link.pair.to)},
          {"method", static_cast<int>(link.method)},         {"verdict", static_cast<int>(link.verdict)},
          {"first_bad_offset", link.first_bad_offset},       {"gb_per_s", link.gb_per_s},
          {"latency_us", link.latency_us},                   {"reason", link.reason}};
}

int within(const Json& json, const char* field, int limit) {
  const int value = json.at(field).get<int>();
  require(value >= 0 && value < limit, [&] { return fmt::format("{} is {}", field, value); });
  return value;
}

double figure(const Json& json, const char* field) {
  const double value = json.at(field).get<double>();
  require(value >= 0 && value < 1e9, [&] { return fmt::format("{} is {}", field, value); });
  return value;
}

/// Links of GPUs that this process does not see are left out.
Verification from_json(const Json& json, const Machine& machine) {
  const auto devices = devices_by_name(machine);
  Verification verification;
  for (const Json& entry : json.at("links")) {
    const auto from = devices.find(entry.at("from").get<std::string>()), to = devices.find(entry.at("to").get<std::string>());
    LinkVerdict link;
    link.method = static_cast<Method>(within(entry, "method", method_count));
    link.verdict = static_cast<Verdict>(within(entry, "verdict", verdict_count));
    link.first_bad_offset = entry.at("first_bad_offset").get<std::int64_t>();
    link.gb_per_s = figure(entry, "gb_per_s");
    link.latency_us = figure(entry, "latency_us");
    link.reason = entry.at("reason").get<std::string>();
    if (from == devices.end() || to == devices.end()) continue;
    link.pair = {from->second, to->second};
    verification.links.push_back(std::move(link));
  }
  return verification;
}

}  // namespace

std::string lasting_name(const Machine& machine, int device) {
  for (const Node& node : machine.nodes)
    if (node.kind == NodeKind::gpu && node.device == device) return lasting_name(node);
  return {};
}

std::string identity_of(const Machine& machine, const fs::path& root) {
  std::vector<std::string> parts;
  for (const Node& node : machine.nodes)
    if (!node.pci.empty() || !node.uuid.empty()) parts.push_back(fmt::format("{} {} {}", static_cast<int>(node.kind), node.pci, node.uuid));
  for (const Link& link : machine.links) {
    const Node &from = machine.nodes[static_cast<std::size_t>(link.from)], &to = machine.nodes[static_cast<std::size_t>(link.to)];
    if (link.kind != LinkKind::nvlink && !from.pci.empty()) parts.push_back(from.pci + ">" + (to.pci.empty() ? to.name : to.pci));
  }
  std::sort(parts.begin(), parts.end());
  std::string identity = fmt::format("driver {}\nhypervisor {}\niommu {}\n", machine.driver, machine.hypervisor, machine.iommu);
  for (const char* name : {"bios_vendor", "bios_version", "bios_date", "board_name", "product_name"})
    identity += fmt::format("{} {}\n", name, line_of(root / "sys/class/dmi/id" / name));
  for (const std::string& part : parts) identity += part + "\n";
  return identity;
}

std::optional<Verification> read_verdicts(const fs::path& file, const Machine& machine, const std::string& identity, std::int64_t now_s) {
  // Whatever is wrong with the file, the links can be proved anew. What JSON's library says of it would be a page.
  try {
    const auto text = read_cache_file(file);
    if (!text) return {};
    const Json json = Json::parse(*text);
    require(json.at("format").get<int>() == format, "it has another format");
    const auto time = json.at("time").get<std::int64_t>();
    if (json.at("identity").get<std::string>() != identity || time > now_s || now_s - time > cache_lifetime_s) {
      log(LogLevel::info, "{} is too old or of another machine, driver or firmware: links will be proved anew", file.string());
      return {};
    }
    return from_json(json, machine);
  } catch (const Error& error) {
    log(LogLevel::warn, "{} is not used: {}", file.string(), error.what());
  } catch (const Json::exception&) {
    log(LogLevel::warn, "{} is not used: it is no file of verdicts", file.string());
  }
  return {};
}

void write_verdicts(const fs::path& file, const Machine& machine, const std::string& identity, std::int64_t now_s, const Verification& verification) {
  Json json = {{"format", format}, {"time", now_s}, {"identity", identity}, {"links", Json::array()}};
  for (const LinkVerdict& link : verification.links) json["links"].push_back(to_json(link, machine));
  write_cache_file(file, json.dump(1));
}

std::optional<Verification> cached_verification(const Machine& machine) {
  const std::string identity = identity_of(machine);
  const auto file = cache_file("links", identity);
  if (!file) return {};
  return read_verdicts(*file, machine, identity, std::time(nullptr));
}

bool cache_verification(const Machine& machine, const Verification& verification) {
  const std::string identity = identity_of(machine);
  const auto file = cache_file("links", identity);
  if (!file) return false;
  try {
    write_verdicts(*file, machine, identity, std::time(nullptr), verification);
  } catch (const Error& error) {
    log(LogLevel::warn, "verdicts are not kept: {}", error.what());
    return false;
  }
  return true;
}

}  // namespace collectives
