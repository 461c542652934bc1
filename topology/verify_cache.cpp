#include "topology/verify_cache.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "base/env.hpp"
#include "base/file_descriptor.hpp"
#include "base/log.hpp"
#include "base/require.hpp"

namespace collectives {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr int format = 1;
constexpr std::size_t largest_file = 4u << 20;

std::uint64_t hash_of(const std::string& text) {
  std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

std::string line_of(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

/// What a GPU is called across processes.
std::string lasting_name(const Node& node) { return node.uuid.empty() ? node.pci : node.uuid; }

std::string name_of_device(const Machine& machine, int device) {
  for (const Node& node : machine.nodes)
    if (node.kind == NodeKind::gpu && node.device == device) return lasting_name(node);
  return {};
}

std::map<std::string, int> devices_by_name(const Machine& machine) {
  std::map<std::string, int> devices;
  for (const Node& node : machine.nodes)
    if (node.kind == NodeKind::gpu && node.device >= 0 && !lasting_name(node).empty()) devices[lasting_name(node)] = node.device;
  return devices;
}

Json to_json(const LinkVerdict& link, const Machine& machine) {
  return {{"from", name_of_device(machine, link.pair.from)}, {"to", name_of_device(machine, link.pair.to)},
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

/// The file's text if it is this user's alone to write.
std::string trusted_text(int fd) {
  struct stat status {};
  system_check(::fstat(fd, &status), "fstat");
  require(S_ISREG(status.st_mode) && status.st_uid == ::geteuid() && (status.st_mode & 022) == 0,
          "it is another's, or others may write it");
  require(static_cast<std::size_t>(status.st_size) <= largest_file, "it is too large");
  std::string text(static_cast<std::size_t>(status.st_size), '\0');
  const ssize_t count = ::read(fd, text.data(), text.size());
  text.resize(count < 0 ? 0 : static_cast<std::size_t>(count));
  return text;
}

std::optional<fs::path> file_for(const std::string& identity) {
  const auto directory = cache_directory();
  if (!directory) return {};
  return fs::path(*directory) / fmt::format("links-{:016x}.json", hash_of(identity));
}

}  // namespace

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
  const FileDescriptor open(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!open && errno == ENOENT) return {};
  // Whatever is wrong with the file, the links can be proved anew. What JSON's library says of it would be a page.
  try {
    require(static_cast<bool>(open), "it cannot be opened", ErrorCode::system);
    const Json json = Json::parse(trusted_text(open.get()));
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
  const std::string text = json.dump(1);
  std::error_code error;
  fs::create_directories(file.parent_path().parent_path(), error);
  if (::mkdir(file.parent_path().c_str(), 0700) != 0 && errno != EEXIST) system_check(-1, fmt::format("mkdir {}", file.parent_path().string()));
  std::string name = file.string() + ".XXXXXX";
  const FileDescriptor open(system_check(::mkostemp(name.data(), O_CLOEXEC), fmt::format("mkostemp {}", name)));
  const bool written = ::write(open.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) && ::fsync(open.get()) == 0;
  if (!written || ::rename(name.c_str(), file.c_str()) != 0) {
    const int cause = errno;
    (void)::unlink(name.c_str());
    errno = cause;
    system_check(-1, fmt::format("writing {}", file.string()));
  }
}

std::optional<Verification> cached_verification(const Machine& machine) {
  const std::string identity = identity_of(machine);
  const auto file = file_for(identity);
  if (!file) return {};
  return read_verdicts(*file, machine, identity, std::time(nullptr));
}

bool cache_verification(const Machine& machine, const Verification& verification) {
  const std::string identity = identity_of(machine);
  const auto file = file_for(identity);
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
