#include "comm/timings_cache.hpp"

#include <collectives/collectives.h>
#include <fmt/format.h>
#include <sys/utsname.h>

#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/log.hpp"
#include "base/require.hpp"
#include "topology/verify_cache.hpp"

namespace collectives {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr int file_format = 1;
constexpr const char* file_name = "timings";

std::string text_of(const Json& json, const char* field) {
  require(json.contains(field) && json[field].is_string(), "it is no file of timings");
  return json[field].get<std::string>();
}

std::string check_of(const std::string& timings) { return fmt::format("{:016x}", hash_of(timings)); }

}  // namespace

std::string identity_of_gpus(const Machine& machine, const std::vector<int>& devices) {
  std::string identity = fmt::format("driver {}\n", machine.driver);
  for (const int device : devices) {
    const std::string name = lasting_name(machine, device);
    if (name.empty()) return {};
    identity += name + "\n";
  }
  return identity;
}

std::string identity_of_host() {
  utsname host{};
  (void)::uname(&host);
  std::string model;
  std::ifstream processors("/proc/cpuinfo");
  for (std::string line; model.empty() && std::getline(processors, line);)
    if (line.starts_with("model name")) model = line;
  return fmt::format("host {}\n{}\n{} processors\n", host.nodename, model, std::thread::hardware_concurrency());
}

std::string timings_identity(const std::string& ranks, const Planner& planner) {
  const PlannerOptions& options = planner.options();
  const std::vector<std::uint8_t> fabric = to_bytes(planner.fabric());
  return fmt::format("version {}\n{}fabric {:016x}\nforced {} wire {} invariant {} slots {} {} {} blocks {}\nmodel {:016x}\n", COLL_VERSION, ranks,
                     hash_of({reinterpret_cast<const char*>(fabric.data()), fabric.size()}), options.forced ? to_string(*options.forced) : "none",
                     options.wire ? name_of(*options.wire) : "none", options.invariant, options.sentinel_slot_bytes, options.flagged_slot_bytes, options.copy_slot_bytes,
                     options.max_blocks, planner.model_digest());
}

std::optional<Timings> timings_in(const std::string& text, const std::string& identity, std::int64_t now_s) {
  const Json json = Json::parse(text, nullptr, false);
  require(json.is_object() && json.value("format", Json()) == file_format, "it is no file of timings, or of another format");
  const std::string table = text_of(json, "timings");
  require(text_of(json, "check") == check_of(table), "it is damaged");
  Timings timings = timings_from_text(table);
  if (text_of(json, "identity") != identity || timings.taken_at > now_s || now_s - timings.taken_at > cache_lifetime_s) return {};
  return timings;
}

std::optional<Timings> read_timings(const fs::path& file, const std::string& identity, std::int64_t now_s) {
  // Whatever is wrong with the file, the model still says what to do.
  try {
    const auto text = read_cache_file(file);
    if (!text) return {};
    auto timings = timings_in(*text, identity, now_s);
    if (!timings) log(LogLevel::info, "{} is too old or of other ranks: plans are the model's until they are tuned again", file.string());
    return timings;
  } catch (const Error& error) {
    log(LogLevel::warn, "{} is not used: {}", file.string(), error.what());
  }
  return {};
}

void write_timings(const fs::path& file, const std::string& identity, const Timings& timings) {
  const std::string table = to_text(timings);
  write_cache_file(file, Json{{"format", file_format}, {"identity", identity}, {"check", check_of(table)}, {"timings", table}}.dump(1));
}

std::optional<Timings> cached_timings(const std::string& identity) {
  const auto file = cache_file(file_name, identity);
  if (!file) return {};
  return read_timings(*file, identity, std::time(nullptr));
}

bool cache_timings(const std::string& identity, const Timings& timings) {
  const auto file = cache_file(file_name, identity);
  if (!file) return false;
  try {
    write_timings(*file, identity, timings);
  } catch (const Error& error) {
    log(LogLevel::warn, "timings are not kept: {}", error.what());
    return false;
  }
  return true;
}

}  // namespace collectives
