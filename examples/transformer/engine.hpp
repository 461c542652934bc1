#pragma once

#include <collectives/types.hpp>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "shape.hpp"

namespace transformer {

/// Tokens of one step: `each` of every sequence. One each is a decode step, more are a prefill of one sequence from its beginning.
struct Batch {
  int sequences = 1;
  int each = 1;

  bool is_prefill() const { return each > 1; }
  int tokens() const { return sequences * each; }
};

/// y = x * transposed(w): x is tokens by `in`, w is `out` by `in`, y is tokens by `out`, all of them row by row.
struct Product {
  int tokens = 0;
  int in = 0;
  int out = 0;
};

/// What attention works on. A token's row in `qkv` is its query heads, then its key heads, then its value heads. A sequence's cache is
/// `capacity` rows of this rank's key (or value) heads.
struct Attention {
  Bf16* qkv = nullptr;
  Bf16* keys = nullptr;
  Bf16* values = nullptr;
  Bf16* context = nullptr;         ///< tokens by query heads
  const int* positions = nullptr;  ///< of every sequence's first token, where the engine lives
  Shape shape;
  Shard shard;
  int capacity = 0;

  COLLECTIVES_EXAMPLE_HOST_DEVICE int row() const { return (shard.heads.count + 2 * shard.kv_heads.count) * shape.head_dim; }
  COLLECTIVES_EXAMPLE_HOST_DEVICE int cache_row() const { return shard.kv_heads.count * shape.head_dim; }
  /// The key and value head that a query head of this rank reads, both counted within the rank.
  COLLECTIVES_EXAMPLE_HOST_DEVICE int kv_of(int head) const { return (shard.heads.first + head) / shape.group() - shard.kv_heads.first; }
};

/// Where a rank computes. Everything is enqueued in order; `wait`, `read` and `write` wait for it. All memory lives as long as the
/// engine. Errors are collectives::Error.
class Engine {
 public:
  virtual ~Engine() = default;

  virtual collectives::Stream stream() const = 0;
  /// Makes this engine's device the calling thread's; before anything else in a thread.
  virtual void make_current() = 0;
  virtual void wait() = 0;

  virtual Bf16* allocate(std::size_t count) = 0;
  virtual int* allocate_positions(int sequences) = 0;
  virtual void fill(Bf16* to, const Piece& piece) = 0;
  virtual void copy(Bf16* to, const Bf16* from, std::size_t count) = 0;
  virtual void write(Bf16* to, const std::vector<Bf16>& from) = 0;
  virtual std::vector<Bf16> read(const Bf16* from, std::size_t count) = 0;

  virtual void set_positions(int* positions, int sequences, int position) = 0;
  /// Every position one further.
  virtual void advance(int* positions, int sequences) = 0;
  /// Each token's `x`, divided by its root mean square and scaled by `gain`.
  virtual void rms_norm(const Bf16* x, const Bf16* gain, Bf16* out, int tokens, int hidden) = 0;
  virtual void linear(const Bf16* x, const Bf16* w, Bf16* y, const Product& product) = 0;
  /// Turns element i and i + head_dim/2 of every query and key by position / 10000^(2i/head_dim).
  virtual void rotate(const Attention& attention, const Batch& batch) = 0;
  /// Puts the batch's keys and values into the cache, then attends to everything up to each token's own position.
  virtual void attend(const Attention& attention, const Batch& batch) = 0;
  /// out = silu(gate) * up; a token's row in `gate_up` is its gates, then its ups.
  virtual void swiglu(const Bf16* gate_up, Bf16* out, int tokens, int width) = 0;
  virtual void add(Bf16* x, const Bf16* y, std::size_t count) = 0;

  /// A step that can be run again: a CUDA graph, or the function itself.
  virtual std::function<void()> capture(const std::function<void()>& step) = 0;
  /// Does a head's attention come out with the same bits whichever heads are computed beside it?
  virtual bool attends_alike(const Batch& batch) const = 0;
};

/// What an engine must be made for.
struct Limits {
  int sequences = 0;
  int capacity = 0;  ///< positions of a sequence
  int prefill = 0;   ///< tokens
};

std::unique_ptr<Engine> make_host_engine(const Shape& shape, const Limits& limits);
/// Throws Error(unsupported) in a build without CUDA or cuBLAS.
std::unique_ptr<Engine> make_cuda_engine(const Shape& shape, const Shard& shard, const Limits& limits, int device);
/// 0 where there is none or the build has no CUDA.
int count_gpus();

/// The cosines and sines of all positions: capacity by head_dim/2 pairs, the same bits for every engine.
std::vector<float> rotations(int capacity, int head_dim);

}  // namespace transformer
