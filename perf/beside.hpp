#pragma once

#include <memory>
#include <vector>

#include "perf/contender.hpp"
#include "perf/product.hpp"
#include "perf/statistics.hpp"

namespace perf {

/// What all-reduces and matrix products took alone and beside each other: of the slowest rank, over the repetitions.
struct BesideResult {
  Summary product_us, product_beside_us;  ///< of one product
  Summary call_us, call_beside_us;        ///< of one all-reduce
  Summary calls_a_product;                ///< all-reduces that came to their end while one product ran
  Summary cost_us;                        ///< by how much one all-reduce delayed the products
  std::uint64_t wrong = 0;                ///< elements of the last all-reduces beside products, over all ranks
};

/// Products and all-reduces on the same GPUs, each by a stream of its own. All of the communicator's ranks are this thread's.
class Beside {
 public:
  /// `in_a_row` products are what a replay of each of `products` has, one a rank.
  Beside(Worker& worker, std::vector<std::unique_ptr<Product>>& products, int in_a_row)
      : worker_(worker), products_(products), in_a_row_(in_a_row) {}

  /// Out of place sums of `count` bf16 elements.
  BesideResult run(Contender& contender, std::size_t count, int repetitions);

 private:
  struct Marks;
  struct Window {
    double product_us, calls;
  };

  Call call_of(const Contender& contender, std::size_t rank, std::size_t count) const;
  std::vector<int> capture(Contender& contender, std::size_t count, int calls);
  std::vector<Marks> make_marks();
  double product_alone();
  double call_alone(Contender& contender, const std::vector<int>& graphs, int replays);
  Window together(Contender& contender, const std::vector<int>& graphs, int& replays);
  void prepare(Contender& contender, std::size_t count, const Payload& payload);
  void wait(Contender& contender);

  Worker& worker_;
  std::vector<std::unique_ptr<Product>>& products_;
  int in_a_row_;
  std::uint64_t next_call_ = 1;  ///< seeds the payloads: what an earlier contender left is wrong
};

}  // namespace perf
