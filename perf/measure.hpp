#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "perf/contender.hpp"
#include "perf/statistics.hpp"

namespace perf {

/// One side of one line.
struct Shape {
  DataType type = DataType::float32;
  ReduceOp op = ReduceOp::sum;
  std::size_t count = 0;  ///< elements of the message, or of a rank's block
  bool in_place = false;
  int blocks = 1;         ///< in the larger buffer

  std::size_t elements() const { return count * static_cast<std::size_t>(blocks); }
  std::size_t bytes() const { return elements() * collectives::size_of(type); }
};

/// What one contender did on one side.
struct Result {
  Summary time_us;          ///< of one call on the slowest rank, over the batches
  double host_us = 0;       ///< what one rank's call took of the enqueuing thread, median; 0 in graphs
  std::uint64_t wrong = 0;  ///< elements, over all ranks and checked calls, and guard bytes and inputs that were written
  bool checked = false;
};

/// The one way to measure: batches of calls back to back, the contenders in turns so that drift of the machine falls on all,
/// the clock of each rank around its batch, the slowest rank counts. Then every contender's results are checked, in a graph
/// too where batches are graphs. All workers make the same calls.
class Measurement {
 public:
  Measurement(Worker& worker, const Collective& collective, std::vector<std::unique_ptr<Contender>>& contenders)
      : worker_(worker), collective_(collective), contenders_(contenders) {}

  /// A result for each contender, the same on all workers.
  std::vector<Result> run(const Shape& shape);

  /// The most figures a rank that `run` puts on the board at once.
  static std::size_t figures(const Settings& settings);

 private:
  struct Batch {
    int calls = 1;
    std::vector<int> graphs;  ///< one a local rank; empty: eager
  };

  /// A row a local rank: time and host time by turns, the faults at the end.
  using Figures = std::vector<std::vector<double>>;

  Call call_of(const Contender& contender, int local, const Shape& shape) const;
  void enqueue(Contender& contender, const Shape& shape, int calls);
  std::vector<int> capture(Contender& contender, const Shape& shape, int calls);
  void wait(Contender& contender);
  void time(Contender& contender, const Shape& shape, const Batch& batch, Figures& figures);
  Batch warm_up(Contender& contender, const Shape& shape);
  void prepare(Contender& contender, const Shape& shape, const Payload& payload);
  std::uint64_t count_faults(Contender& contender, int local, const Shape& shape, const Payload& payload);
  void check(Contender& contender, const Shape& shape, bool in_graph, std::vector<double>& wrong);
  Result gather(const Figures& mine, bool checked);
  int rank_of(int local) const { return worker_.first_rank + local; }
  bool graphs() const { return worker_.settings->graph_launches > 0; }

  Worker& worker_;
  const Collective& collective_;
  std::vector<std::unique_ptr<Contender>>& contenders_;
  std::uint64_t next_call_ = 0;  ///< seeds the payloads: no checked call repeats another's values
};

}  // namespace perf
