#include "perf/p2p_matrix.hpp"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

namespace perf {

Matrix::Matrix(std::string matrix_title, std::string json_key, int gpus)
    : title(std::move(matrix_title)),
      key(std::move(json_key)),
      size(gpus),
      values(static_cast<std::size_t>(gpus) * static_cast<std::size_t>(gpus), std::numeric_limits<double>::quiet_NaN()) {}

std::string to_text(const Matrix& matrix) {
  std::string text = matrix.title + "\n   D\\D";
  for (int to = 0; to < matrix.size; ++to) text += fmt::format("{:>8} ", to);
  text += "\n";
  for (int from = 0; from < matrix.size; ++from) {
    text += fmt::format("{:>6}", from);
    for (int to = 0; to < matrix.size; ++to) {
      const double value = matrix.at(from, to);
      text += std::isnan(value) ? fmt::format("{:>8} ", "-") : fmt::format("{:>8.2f} ", value);
    }
    text += "\n";
  }
  return text;
}

std::string to_json(const std::vector<std::string>& gpus, const std::vector<Matrix>& matrices) {
  nlohmann::ordered_json json = {{"gpus", gpus}, {"matrices", nlohmann::ordered_json::object()}};
  for (const Matrix& matrix : matrices) {
    nlohmann::ordered_json rows = nlohmann::ordered_json::array();
    for (int from = 0; from < matrix.size; ++from) {
      nlohmann::ordered_json row = nlohmann::ordered_json::array();
      for (int to = 0; to < matrix.size; ++to) {
        const double value = matrix.at(from, to);
        row.push_back(std::isnan(value) ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(value));
      }
      rows.push_back(std::move(row));
    }
    json["matrices"][matrix.key] = {{"title", matrix.title}, {"values", std::move(rows)}};
  }
  return json.dump(2) + "\n";
}

}  // namespace perf
