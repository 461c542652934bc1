#include "perf/statistics.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace perf {

Summary summarize(std::vector<double> samples) {
  if (samples.empty()) return {};
  std::sort(samples.begin(), samples.end());
  const std::size_t count = samples.size();
  Summary summary;
  summary.min = samples.front();
  summary.max = samples.back();
  summary.median = count % 2 == 1 ? samples[count / 2] : (samples[count / 2 - 1] + samples[count / 2]) / 2;
  summary.p99 = samples[(count * 99 + 99) / 100 - 1];
  for (const double sample : samples) summary.mean += sample / static_cast<double>(count);
  double squares = 0;
  for (const double sample : samples) squares += (sample - summary.mean) * (sample - summary.mean);
  if (summary.mean > 0) summary.variation = std::sqrt(squares / static_cast<double>(count)) / summary.mean;
  return summary;
}

std::vector<double> slowest(const std::vector<std::vector<double>>& ranks) {
  std::vector<double> result = ranks.empty() ? std::vector<double>{} : ranks.front();
  for (const auto& rank : ranks)
    for (std::size_t i = 0; i < result.size(); ++i) result[i] = std::max(result[i], rank.at(i));
  return result;
}

}  // namespace perf
