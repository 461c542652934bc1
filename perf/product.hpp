#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

#include "perf/place.hpp"

namespace perf {

/// rows x columns = (rows x depth) * (depth x columns).
struct ProductShape {
  int rows = 8192;
  int columns = 8192;
  int depth = 8192;

  double flops() const { return 2.0 * rows * columns * depth; }
};

/// "8192x4096x1024": rows, columns, depth. Throws Error(invalid_argument) for anything else.
ProductShape parse_product(std::string_view text);

/// Matrix products one after the other on one GPU, in bf16 with fp32 sums, by cuBLAS in a replayed graph.
class Product {
 public:
  /// `in_a_row` products make a replay.
  Product(int device, const ProductShape& shape, int in_a_row);
  ~Product();
  Product(const Product&) = delete;
  Product& operator=(const Product&) = delete;

  Place& place() { return *place_; }
  void replay();

 private:
  struct Blas;
  std::byte* take(std::size_t bytes);
  std::byte* take_matrix(std::size_t elements);

  std::unique_ptr<Place> place_;
  std::unique_ptr<Blas> blas_;
  int graph_ = 0;
};

}  // namespace perf
