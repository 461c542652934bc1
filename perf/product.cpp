#include "perf/product.hpp"

#include <cublas_v2.h>
#include <fmt/format.h>

#include <charconv>
#include <collectives/error.hpp>
#include <vector>

namespace perf {
namespace {

using collectives::Error;
using collectives::ErrorCode;

constexpr std::size_t workspace_bytes = std::size_t{32} << 20;

void check(cublasStatus_t result, const char* what) {
  if (result != CUBLAS_STATUS_SUCCESS) throw Error(ErrorCode::device, fmt::format("{}: {}", what, cublasGetStatusString(result)));
}

}  // namespace

struct Product::Blas {
  Blas() { check(cublasCreate(&handle), "cublasCreate"); }
  ~Blas() { cublasDestroy(handle); }
  Blas(const Blas&) = delete;
  Blas& operator=(const Blas&) = delete;

  cublasHandle_t handle = nullptr;
  std::vector<std::byte*> memory;
};

ProductShape parse_product(std::string_view text) {
  ProductShape shape;
  const char *at = text.data(), *end = at + text.size();
  for (int* extent : {&shape.rows, &shape.columns, &shape.depth}) {
    const auto [rest, failure] = std::from_chars(at, end, *extent);
    const bool last = extent == &shape.depth;
    if (failure != std::errc{} || *extent < 1 || (last ? rest != end : rest == end || *rest != 'x'))
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("'{}' is no product: expected rows, columns and depth such as 8192x4096x1024", text));
    at = last ? rest : rest + 1;
  }
  return shape;
}

Product::Product(int device, const ProductShape& shape, int in_a_row) : place_(make_cuda_place(device, false)) {
  place_->make_current();
  blas_ = std::make_unique<Blas>();
  const auto rows = static_cast<std::size_t>(shape.rows), columns = static_cast<std::size_t>(shape.columns),
             depth = static_cast<std::size_t>(shape.depth);
  const std::byte *left = take_matrix(rows * depth), *right = take_matrix(depth * columns);
  std::byte* result = take_matrix(rows * columns);
  check(cublasSetStream(blas_->handle, place_->stream()), "cublasSetStream");
  // After the stream, which resets it. Of our own, so that a captured product is the eager one.
  check(cublasSetWorkspace(blas_->handle, take(workspace_bytes), workspace_bytes), "cublasSetWorkspace");
  // cuBLAS counts by columns: our rows are its columns. The right factor lies as weights do, a row for each column of the result.
  const auto multiply = [&] {
    const float one = 1, zero = 0;
    check(
        cublasGemmEx(blas_->handle, CUBLAS_OP_T, CUBLAS_OP_N, shape.columns, shape.rows, shape.depth, &one, right, CUDA_R_16BF, shape.depth,
                     left, CUDA_R_16BF, shape.depth, &zero, result, CUDA_R_16BF, shape.columns, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
        "cublasGemmEx");
  };
  multiply();  // loads what it needs, which a capture may not
  place_->begin_capture();
  for (int i = 0; i < in_a_row; ++i) multiply();
  graph_ = place_->end_capture();
}

Product::~Product() {
  if (!blas_) return;
  place_->make_current();
  for (std::byte* memory : blas_->memory) place_->release(memory);
}

void Product::replay() { place_->replay(graph_); }

std::byte* Product::take(std::size_t bytes) { return blas_->memory.emplace_back(place_->allocate(bytes)); }

/// Small integers: zeros would cost less power, and a GPU that saves some runs faster.
std::byte* Product::take_matrix(std::size_t elements) {
  std::byte* matrix = take(elements * collectives::size_of(DataType::bfloat16));
  place_->fill_with(matrix, elements, {.type = DataType::bfloat16}, 0);
  return matrix;
}

}  // namespace perf
