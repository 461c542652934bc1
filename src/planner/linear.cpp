#include "planner/linear.hpp"

#include <algorithm>

#include "base/integers.hpp"

namespace collectives {
// Every row has a little more room than the one before it, so that no two of them run out at once and no pivot is for nothing.
ColumnProgram::ColumnProgram(int rows) : rows_(rows), inverse_(at(rows * rows), 0.0), prices_(at(rows), 0.0) {
  for (int row = 0; row < rows; ++row) {
    basis_.push_back(-1 - row);
    level_.push_back(1 + 1e-7 * (row + 1));
    inverse(row, row) = 1;
  }
}

void ColumnProgram::add(std::span<const double> column) {
  auto& entries = columns_.emplace_back();
  for (int row = 0; row < rows_; ++row)
    if (column[at(row)] != 0) entries.push_back({row, column[at(row)]});
  entries_ += static_cast<double>(entries.size());
}

void ColumnProgram::solve(double most_work) {
  const double pivot_work = 0.5 * rows_ * rows_;  // most rows are left alone
  for (const double end = work_ + most_work; work_ < end; work_ += pivot_work + entries_) {
    const Entering entering = find_entering();
    if (entering.gain == 0) return;
    const std::vector<double> column = in_basis(entering.variable);
    const int row = find_leaving(column);
    if (row < 0) return;
    pivot(row, entering, column);
  }
}

std::vector<double> ColumnProgram::amounts() const {
  std::vector<double> amounts(columns_.size(), 0.0);
  for (int row = 0; row < rows_; ++row)
    if (basis_[at(row)] >= 0) amounts[at(basis_[at(row)])] = std::max(level_[at(row)], 0.0);
  return amounts;
}

ColumnProgram::Entering ColumnProgram::find_entering() const {
  Entering best{0, 0};
  const auto consider = [&](int variable, double gain) {
    if (gain > tiny && gain > best.gain) best = {variable, gain};
  };
  for (int c = 0; at(c) < columns_.size(); ++c) {
    double gain = 1;
    for (const Entry& entry : columns_[at(c)]) gain -= prices_[at(entry.row)] * entry.amount;
    consider(c, gain);
  }
  for (int row = 0; row < rows_; ++row) consider(-1 - row, -prices_[at(row)]);
  return best;
}

std::vector<double> ColumnProgram::in_basis(int variable) const {
  std::vector<double> result(at(rows_), 0.0);
  for (int row = 0; row < rows_; ++row) {
    if (variable < 0) {
      result[at(row)] = inverse(row, -1 - variable);
      continue;
    }
    for (const Entry& entry : columns_[at(variable)]) result[at(row)] += inverse(row, entry.row) * entry.amount;
  }
  return result;
}

int ColumnProgram::find_leaving(const std::vector<double>& column) const {
  int best = -1;
  for (int row = 0; row < rows_; ++row) {
    if (column[at(row)] <= tiny) continue;
    if (best < 0 || level_[at(row)] * column[at(best)] < level_[at(best)] * column[at(row)]) best = row;
  }
  return best;
}

void ColumnProgram::pivot(int row, Entering entering, const std::vector<double>& column) {
  const double scale = 1 / column[at(row)];
  for (int i = 0; i < rows_; ++i) inverse(row, i) *= scale;
  level_[at(row)] *= scale;
  for (int other = 0; other < rows_; ++other) {
    if (other == row || column[at(other)] == 0) continue;
    for (int i = 0; i < rows_; ++i) inverse(other, i) -= column[at(other)] * inverse(row, i);
    level_[at(other)] -= column[at(other)] * level_[at(row)];
  }
  for (int i = 0; i < rows_; ++i) prices_[at(i)] += entering.gain * inverse(row, i);
  basis_[at(row)] = entering.variable;
}

}  // namespace collectives
