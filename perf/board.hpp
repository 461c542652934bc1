#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace perf {

/// Where the workers of a run, threads or forked processes, meet: an anonymous shared mapping with a barrier, one failure that
/// ends every wait, and a row of figures a rank.
class Board {
 public:
  /// Waits longer than `deadline_s` fail.
  Board(int workers, int ranks, std::size_t figures_per_rank, double deadline_s);
  ~Board();
  Board(const Board&) = delete;
  Board& operator=(const Board&) = delete;

  /// All workers. Throws Error(aborted) when a worker has failed, Error(timeout) when one does not come.
  void barrier();

  /// Ends every wait; the first message is kept. Any worker, or the parent of a process that died.
  void fail(std::string_view message);
  bool failed() const;
  std::string failure() const;

  /// All workers. Every rank's figures by rank, of which this worker brings those from `first_rank` on.
  std::vector<std::vector<double>> gather(int first_rank, const std::vector<std::vector<double>>& mine);

  /// All workers. Worker 0's bytes.
  using Bytes = std::array<char, 128>;
  Bytes broadcast(int worker, const Bytes& mine);

  /// All workers. A line about every rank.
  std::vector<std::string> gather_labels(int first_rank, const std::vector<std::string>& mine);

 private:
  struct Shared;
  double* figures(int rank) const;

  Shared* shared_ = nullptr;
  std::size_t mapped_bytes_ = 0;
  std::size_t row_ = 0;  ///< doubles a rank, its count first
  int workers_ = 0;
  int ranks_ = 0;
  double deadline_s_ = 0;
};

}  // namespace perf
