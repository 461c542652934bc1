#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace perf {

/// A figure for every ordered pair of GPUs.
struct Matrix {
  Matrix(std::string matrix_title, std::string json_key, int gpus);

  double& at(int from, int to) { return values[static_cast<std::size_t>(from * size + to)]; }
  double at(int from, int to) const { return values[static_cast<std::size_t>(from * size + to)]; }

  std::string title;  ///< with the unit
  std::string key;    ///< in JSON
  int size = 0;
  std::vector<double> values;  ///< NaN: could not be measured
};

/// Title, a line of column numbers, a line a GPU; what was not measured is a dash.
std::string to_text(const Matrix& matrix);

/// {"gpus": [names], "matrices": {key: {"title": ..., "values": [[...]]}}}; what was not measured is null.
std::string to_json(const std::vector<std::string>& gpus, const std::vector<Matrix>& matrices);

}  // namespace perf
