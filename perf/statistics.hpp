#pragma once

#include <vector>

namespace perf {

/// Of repeated measurements, in their unit.
struct Summary {
  double min = 0;
  double median = 0;
  double p99 = 0;  ///< nearest rank: the largest of fewer than a hundred
  double max = 0;
  double mean = 0;
  double variation = 0;  ///< standard deviation over mean
};

/// All zeros without samples.
Summary summarize(std::vector<double> samples);

/// Of every position the largest over the ranks: a call is over when its slowest rank is. Rows must be equally long.
std::vector<double> slowest(const std::vector<std::vector<double>>& ranks);

}  // namespace perf
