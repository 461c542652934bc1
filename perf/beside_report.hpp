#pragma once

#include <string>
#include <vector>

#include "perf/beside.hpp"

namespace perf {

/// One contender at one size.
struct BesideLine {
  std::string contender;
  std::string plan;  ///< "two_shot, 132 blocks"; empty for those who do not say
  std::size_t bytes = 0;
  BesideResult result;
};

/// What the run was asked for.
struct BesideRun {
  int ranks = 0;
  ProductShape product;
  int in_a_row = 0;
  bool urgent = false;
  std::string nccl_version;  ///< empty: not compared with
  std::vector<std::string> places;
};

/// Lines for people, each ending with a newline.
std::string heading(const BesideRun& run);
std::string row(const BesideRun& run, const BesideLine& line);

/// The same and more, for programs.
std::string to_json(const BesideRun& run, const std::vector<BesideLine>& lines);

}  // namespace perf
