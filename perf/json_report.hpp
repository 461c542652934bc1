#pragma once

#include <memory>
#include <string>
#include <vector>

#include "perf/table.hpp"

namespace perf {

/// A run as nccl-tests writes it (file version 3, booleans as strings), with our figures beside theirs.
class JsonReport {
 public:
  /// Opens `path`, or `path`.0, .1, ... if that exists. Throws Error(system) if none can be made.
  explicit JsonReport(const std::string& path);
  ~JsonReport();
  JsonReport(const JsonReport&) = delete;
  JsonReport& operator=(const JsonReport&) = delete;

  void begin(const Worker& worker, const std::vector<std::string>& args, const std::vector<std::string>& labels,
             const std::string& nccl_version);
  void add(const Line& line, const TableStyle& style);
  /// Writes the file.
  void finish(const Totals& totals, const TableStyle& style, const std::vector<double>& creation_ms);

  const std::string& path() const { return path_; }

 private:
  struct Document;
  std::unique_ptr<Document> document_;
  std::string path_;
};

}  // namespace perf
