// A GPU: cuBLAS for the products, in bf16 with fp32 sums, kernels.cu for the rest, one stream.
#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include <cmath>
#include <collectives/error.hpp>
#include <map>
#include <utility>

#include "kernels.hpp"

namespace transformer {
namespace {

using collectives::Error;
using collectives::ErrorCode;

constexpr std::size_t workspace_bytes = 32 << 20;

void check(cudaError_t result, const char* what) {
  if (result == cudaSuccess) return;
  cudaGetLastError();  // an error that is reported is not to be found again by the next call
  throw Error(result == cudaErrorMemoryAllocation ? ErrorCode::out_of_memory : ErrorCode::device,
              std::string(what) + ": " + cudaGetErrorString(result));
}

void check(cublasStatus_t result, const char* what) {
  if (result != CUBLAS_STATUS_SUCCESS) throw Error(ErrorCode::device, std::string(what) + ": " + cublasGetStatusString(result));
}

class CudaEngine final : public Engine {
 public:
  CudaEngine(const Shape& shape, const Shard& shard, const Limits& limits, int device) : device_(device) {
    if (!decodes(shape.head_dim)) throw Error(ErrorCode::invalid_argument, "a GPU's heads have 32, 64, 128 or 256 elements");
    make_current();
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    check(cublasCreate(&cublas_), "cublasCreate");
    check(cublasSetStream(cublas_, stream_), "cublasSetStream");
    // After the stream, which resets it. A workspace of our own, so that a captured product is the eager one.
    check(cublasSetWorkspace(cublas_, take(workspace_bytes), workspace_bytes), "cublasSetWorkspace");
    check(cublasSetMathMode(cublas_, CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION), "cublasSetMathMode");
    const std::vector<float> turns = rotations(limits.capacity, shape.head_dim);
    turns_ = upload(turns);
    partials_ = static_cast<float*>(take(decode_floats(shape, shard, limits) * sizeof(float)));
    const std::size_t scores = std::size_t(shard.heads.count) * limits.prefill * limits.prefill;
    scores_ = static_cast<float*>(take(scores * sizeof(float)));
    weights_ = static_cast<Bf16*>(take(scores * sizeof(Bf16)));
  }

  ~CudaEngine() override {
    cudaSetDevice(device_);
    if (cublas_ != nullptr) cublasDestroy(cublas_);
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
    for (void* memory : memory_) cudaFree(memory);
  }

  collectives::Stream stream() const override { return stream_; }
  void make_current() override { check(cudaSetDevice(device_), "cudaSetDevice"); }
  void wait() override { check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize"); }

  Bf16* allocate(std::size_t count) override { return static_cast<Bf16*>(take(count * sizeof(Bf16))); }
  int* allocate_positions(int sequences) override { return static_cast<int*>(take(static_cast<std::size_t>(sequences) * sizeof(int))); }
  void fill(Bf16* to, const Piece& piece) override { launch_fill(to, piece, stream_); }

  void copy(Bf16* to, const Bf16* from, std::size_t count) override {
    check(cudaMemcpyAsync(to, from, count * sizeof(Bf16), cudaMemcpyDeviceToDevice, stream_), "cudaMemcpyAsync");
  }

  void write(Bf16* to, const std::vector<Bf16>& from) override {
    check(cudaMemcpyAsync(to, from.data(), from.size() * sizeof(Bf16), cudaMemcpyHostToDevice, stream_), "cudaMemcpyAsync");
    wait();
  }

  std::vector<Bf16> read(const Bf16* from, std::size_t count) override {
    std::vector<Bf16> values(count);
    check(cudaMemcpyAsync(values.data(), from, count * sizeof(Bf16), cudaMemcpyDeviceToHost, stream_), "cudaMemcpyAsync");
    wait();
    return values;
  }

  void set_positions(int* positions, int sequences, int position) override {
    launch_set_positions(positions, sequences, position, stream_);
  }
  void advance(int* positions, int sequences) override { launch_advance(positions, sequences, stream_); }

  void rms_norm(const Bf16* x, const Bf16* gain, Bf16* out, int tokens, int hidden) override {
    launch_rms_norm(x, gain, out, {tokens, hidden, hidden}, stream_);
  }

  // cuBLAS counts by columns: our rows are its columns, so it computes transposed(y) = w * transposed(x).
  void linear(const Bf16* x, const Bf16* w, Bf16* y, const Product& product) override {
    const float one = 1, zero = 0;
    check(cublasGemmEx(cublas_, CUBLAS_OP_T, CUBLAS_OP_N, product.out, product.tokens, product.in, &one, w, CUDA_R_16BF, product.in, x,
                       CUDA_R_16BF, product.in, &zero, y, CUDA_R_16BF, product.out, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
          "cublasGemmEx");
  }

  void rotate(const Attention& attention, const Batch& batch) override { launch_rotate(attention, batch, turns_, stream_); }

  void attend(const Attention& attention, const Batch& batch) override {
    launch_store(attention, batch, stream_);
    if (batch.is_prefill())
      prefill(attention, batch.each);
    else
      launch_decode(attention, batch.sequences, partials_, stream_);
  }

  void swiglu(const Bf16* gate_up, Bf16* out, int tokens, int width) override {
    launch_swiglu(gate_up, out, {tokens, width, width}, stream_);
  }
  void add(Bf16* x, const Bf16* y, std::size_t count) override { launch_add(x, y, count, stream_); }

  std::function<void()> capture(const std::function<void()>& step) override {
    // Relaxed: the threads of other ranks may allocate meanwhile.
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed), "cudaStreamBeginCapture");
    cudaGraph_t graph = nullptr;
    try {
      step();
    } catch (...) {
      cudaStreamEndCapture(stream_, &graph);
      cudaGraphDestroy(graph);
      throw;
    }
    check(cudaStreamEndCapture(stream_, &graph), "cudaStreamEndCapture");
    cudaGraphExec_t made = nullptr;
    const cudaError_t result = cudaGraphInstantiate(&made, graph, 0);
    cudaGraphDestroy(graph);
    check(result, "cudaGraphInstantiate");
    const std::shared_ptr<CUgraphExec_st> runnable(made, [](cudaGraphExec_t ended) { cudaGraphExecDestroy(ended); });
    check(cudaGraphUpload(runnable.get(), stream_), "cudaGraphUpload");
    return [this, runnable] { check(cudaGraphLaunch(runnable.get(), stream_), "cudaGraphLaunch"); };
  }

  // A prefill's products are batches of as many heads as there are, and cuBLAS may choose by that.
  bool attends_alike(const Batch& batch) const override { return !batch.is_prefill(); }

 private:
  /// One pointer a query head, on the device.
  struct Heads {
    const void **queries, **keys, **values, **weights;
    void **scores, **contexts;
  };

  void* take(std::size_t bytes) {
    void* memory = nullptr;
    check(cudaMalloc(&memory, bytes > 0 ? bytes : 1), "cudaMalloc");
    memory_.push_back(memory);
    return memory;
  }

  template <typename T>
  T* upload(const std::vector<T>& values) {
    auto* memory = static_cast<T*>(take(values.size() * sizeof(T)));
    check(cudaMemcpyAsync(memory, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice, stream_), "cudaMemcpyAsync");
    wait();
    return memory;
  }

  /// Those of a layer, made when its keys are seen for the first time, which is never within a capture: a step runs once before it.
  const Heads& heads_of(const Attention& a, int tokens) {
    const auto found = heads_.find({a.keys, tokens});
    if (found != heads_.end()) return found->second;
    std::vector<const void*> queries, keys, values, weights;
    std::vector<void*> scores, contexts;
    for (int head = 0; head < a.shard.heads.count; ++head) {
      const std::size_t square = std::size_t(head) * tokens * tokens, own = std::size_t(head) * a.shape.head_dim;
      const std::size_t shared = std::size_t(a.kv_of(head)) * a.shape.head_dim;
      queries.push_back(a.qkv + own);
      keys.push_back(a.keys + shared);
      values.push_back(a.values + shared);
      scores.push_back(scores_ + square);
      weights.push_back(weights_ + square);
      contexts.push_back(a.context + own);
    }
    return heads_[{a.keys, tokens}] = {upload(queries), upload(keys), upload(values), upload(weights), upload(scores), upload(contexts)};
  }

  /// Per head: scores = queries * transposed(keys) / sqrt(head_dim); weights = causal softmax; context = weights * values. All scores of
  /// a head at once: more memory and traffic than a fused kernel, which would have to be written for every architecture.
  void prefill(const Attention& a, int tokens) {
    const Heads& heads = heads_of(a, tokens);
    const int count = a.shard.heads.count, head_dim = a.shape.head_dim;
    const float scale = 1 / std::sqrt(static_cast<float>(head_dim)), one = 1, zero = 0;
    check(cublasGemmBatchedEx(cublas_, CUBLAS_OP_T, CUBLAS_OP_N, tokens, tokens, head_dim, &scale, heads.keys, CUDA_R_16BF, a.cache_row(),
                              heads.queries, CUDA_R_16BF, a.row(), &zero, heads.scores, CUDA_R_32F, tokens, count, CUBLAS_COMPUTE_32F,
                              CUBLAS_GEMM_DEFAULT),
          "scores");
    launch_causal_softmax(scores_, weights_, count, tokens, stream_);
    check(cublasGemmBatchedEx(cublas_, CUBLAS_OP_N, CUBLAS_OP_N, head_dim, tokens, tokens, &one, heads.values, CUDA_R_16BF, a.cache_row(),
                              heads.weights, CUDA_R_16BF, tokens, &zero, heads.contexts, CUDA_R_16BF, count * head_dim, count,
                              CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
          "context");
  }

  int device_ = 0;
  cudaStream_t stream_ = nullptr;
  cublasHandle_t cublas_ = nullptr;
  std::vector<void*> memory_;
  std::map<std::pair<const Bf16*, int>, Heads> heads_;
  float *turns_ = nullptr, *partials_ = nullptr, *scores_ = nullptr;
  Bf16* weights_ = nullptr;
};

}  // namespace

std::unique_ptr<Engine> make_cuda_engine(const Shape& shape, const Shard& shard, const Limits& limits, int device) {
  return std::make_unique<CudaEngine>(shape, shard, limits, device);
}

int count_gpus() {
  int gpus = 0;
  if (cudaGetDeviceCount(&gpus) == cudaSuccess) return gpus;
  cudaGetLastError();
  return 0;
}

}  // namespace transformer
