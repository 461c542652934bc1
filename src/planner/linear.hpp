#pragma once

#include <span>
#include <vector>

namespace collectives {

/// Maximises the sum of the amounts of its columns while no row's total goes beyond 1 (revised simplex on a dense inverse). Columns
/// may be added between solutions; the next one starts from the last.
class ColumnProgram {
 public:
  explicit ColumnProgram(int rows);

  /// What one unit takes of each row: nowhere below 0, somewhere above.
  void add(std::span<const double> column);
  /// Stops early when `most_work` is spent, with amounts that are possible but not the best, and prices that are too low.
  void solve(double most_work);
  /// So far, in multiplications: a measure of time that is the same on every rank.
  double work() const { return work_; }

  /// Of each column, in the order they were added. At most as many as there are rows are above 0.
  std::vector<double> amounts() const;
  /// Of each row: at these prices no column costs less than 1, and all rows together cost what the amounts sum to.
  const std::vector<double>& prices() const { return prices_; }

 private:
  static constexpr double tiny = 1e-9;

  struct Entering {
    int variable;
    double gain;  ///< a unit; 0 if no variable gains
  };

  Entering find_entering() const;
  std::vector<double> in_basis(int variable) const;
  int find_leaving(const std::vector<double>& column) const;
  void pivot(int row, Entering entering, const std::vector<double>& column);
  double& inverse(int row, int column) { return inverse_[static_cast<std::size_t>(row * rows_ + column)]; }
  double inverse(int row, int column) const { return inverse_[static_cast<std::size_t>(row * rows_ + column)]; }

  int rows_;
  double work_ = 0;
  struct Entry {
    int row;
    double amount;
  };

  std::vector<std::vector<Entry>> columns_;
  double entries_ = 0;           ///< of all columns
  std::vector<int> basis_;       ///< by row: a column, or rows' slacks as -1 - row
  std::vector<double> level_;    ///< of the basic variables
  std::vector<double> inverse_;  ///< of the basis
  std::vector<double> prices_;
};

}  // namespace collectives
