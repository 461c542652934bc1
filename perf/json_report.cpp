#include "perf/json_report.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <collectives/error.hpp>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <nlohmann/json.hpp>
#include <string_view>

namespace perf {
namespace {

using collectives::Error;
using collectives::ErrorCode;
using nlohmann::ordered_json;

std::string now() { return fmt::format("{:%Y-%m-%d %H:%M:%S}", fmt::localtime(std::time(nullptr))); }
std::string text(bool value) { return value ? "true" : "false"; }

/// Opened so that an existing file is never written over.
std::FILE* open_new(const std::string& path, std::string& opened) {
  for (int suffix = -1; suffix < 1000; ++suffix) {
    opened = suffix < 0 ? path : fmt::format("{}.{}", path, suffix);
    if (std::FILE* file = std::fopen(opened.c_str(), "wx")) return file;
    if (errno != EEXIST) break;
  }
  throw Error(ErrorCode::system, fmt::format("cannot write {}: {}", opened, std::strerror(errno)));
}

/// The settings of this library and of NCCL that the run inherited.
ordered_json environment() {
  ordered_json list = ordered_json::array();
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view line(*entry);
    if (line.starts_with("COLLECTIVES_") || line.starts_with("NCCL_") || line.starts_with("CUDA_VISIBLE_DEVICES")) list.push_back(line);
  }
  return list;
}

ordered_json side_json(const Line& line, const Result& result) {
  const double algorithm = algorithm_gb_per_s(line, result);
  ordered_json wrong = "N/A";
  if (result.checked) wrong = result.wrong;
  return {{"time", result.time_us.median},
          {"alg_bw", algorithm},
          {"bus_bw", algorithm * line.bus_factor},
          {"nwrong", wrong},
          {"min_us", result.time_us.min},
          {"median_us", result.time_us.median},
          {"p99_us", result.time_us.p99},
          {"max_us", result.time_us.max},
          {"avg_us", result.time_us.mean},
          {"cv_pct", result.time_us.variation * 100},
          {"host_us", result.host_us}};
}

ordered_json config_json(const Worker& worker, const std::vector<std::string>& labels) {
  const Settings& s = *worker.settings;
  ordered_json config = {{"nthreads", worker.layout->threads},
                         {"ngpus", worker.layout->ranks_per_thread},
                         {"nprocs", worker.layout->processes},
                         {"nranks", worker.layout->ranks()},
                         {"backend", worker.layout->on_gpu() ? "cuda" : "host"},
                         {"minimum_bytes", s.min_bytes},
                         {"maximum_bytes", s.max_bytes}};
  if (s.step_factor > 1)
    config["step_factor"] = s.step_factor;
  else
    config["step_bytes"] = s.step_bytes;
  config.update({{"warmup_iters", s.warmups},
                 {"iterations", repetitions(s)},
                 {"aggregated_iterations", s.calls_per_batch},
                 {"validation", s.checks},
                 {"graph", s.graph_launches},
                 {"blocking_collectives", text(s.blocking)},
                 {"per_iter_timing", text(s.per_call)},
                 {"devices", ordered_json::array()}});
  for (std::size_t rank = 0; rank < labels.size(); ++rank)
    config["devices"].push_back({{"rank", rank},
                                 {"group", 0},
                                 {"device", worker.layout->on_gpu() ? worker.layout->devices[rank] : -1},
                                 {"device_info", labels[rank]}});
  return config;
}

}  // namespace

struct JsonReport::Document {
  ordered_json json;
  std::FILE* file = nullptr;
  bool finished = false;

  bool write() {
    finished = true;
    const std::string all = json.dump(2) + "\n";
    return std::fwrite(all.data(), 1, all.size(), file) == all.size() && std::fflush(file) == 0;
  }
};

JsonReport::JsonReport(const std::string& path) : document_(std::make_unique<Document>()) { document_->file = open_new(path, path_); }

JsonReport::~JsonReport() {
  if (!document_->finished) {
    document_->json["errors"] = {"the run did not finish"};
    document_->write();
  }
  std::fclose(document_->file);
}

void JsonReport::begin(const Worker& worker, const std::vector<std::string>& args, const std::vector<std::string>& labels,
                       const std::string& nccl_version) {
  document_->json = {{"version", 3},
                     {"start_time", now()},
                     {"args", args},
                     {"env", environment()},
                     {"nccl_version", nccl_version},
                     {"config", config_json(worker, labels)},
                     {"results", ordered_json::array()}};
}

void JsonReport::add(const Line& line, const TableStyle& style) {
  ordered_json entry = {{"size", line.shape.bytes()},
                        {"count", line.shape.count},
                        {"type", name_of(line.shape.type)},
                        {"redop", operation_of(line)},
                        {"root", std::to_string(line.root)},
                        {"out_of_place", side_json(line, line.out_of_place.at(0))},
                        {"in_place", side_json(line, line.in_place.at(0))},
                        {"plan",
                         {{"algorithm", to_string(line.plan.choice)},
                          {"wire", name_of(line.plan.wire)},
                          {"blocks", line.plan.blocks * line.plan.crews},
                          {"threads", line.plan.threads},
                          {"predicted_us", line.plan.predicted_us}}}};
  for (std::size_t c = 1; c < style.contenders.size(); ++c)
    entry["compare"][style.contenders[c]] = {{"out_of_place", side_json(line, line.out_of_place.at(c))},
                                             {"in_place", side_json(line, line.in_place.at(c))}};
  document_->json["results"].push_back(std::move(entry));
}

void JsonReport::finish(const Totals& totals, const TableStyle& style, const std::vector<double>& creation_ms) {
  for (std::size_t c = 0; c < style.contenders.size(); ++c) document_->json["creation_ms"][style.contenders[c]] = creation_ms.at(c);
  document_->json.update({{"out_of_bounds", {{"count", totals.wrong}, {"okay", text(totals.wrong == 0)}}},
                          {"average_bus_bandwidth", {{"bandwidth", totals.average_bus()}, {"okay", "true"}}},
                          {"errors", ordered_json::array()},
                          {"end_time", now()}});
  if (!document_->write()) throw Error(ErrorCode::system, fmt::format("cannot write {}: {}", path_, std::strerror(errno)));
}

}  // namespace perf
