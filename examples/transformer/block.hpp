#pragma once

#include <functional>
#include <vector>

#include "engine.hpp"
#include "join.hpp"

namespace transformer {

/// What a forward pass leaves behind, in the order in which it does, once a layer.
enum class Stage { input, qkv, context, attention_partial, attention_joined, middle, activation, mlp_partial, mlp_joined, output };
inline constexpr int stage_count = 10;
const char* name_of(Stage stage);

/// Faults to plant on rank 1, for the check to find.
enum class Fault { none, skip_join, wrong_shard };

/// One rank's shard of a stack of decoder blocks. For each layer:
///   x += join(attention_out * attend(rotate(qkv * norm(x))))
///   x += join(down * swiglu(gate_up * norm(x)))
/// Products before a join are column-parallel up to attention and SwiGLU, row-parallel after them, so that these two joins are all that
/// the ranks say to each other. Weights are a seed's: rank r of N makes its shard, one rank alone makes the whole.
class Block {
 public:
  struct Setting {
    Shape shape;
    Shard shard;
    Limits limits;
    std::uint64_t seed = 0;
    Fault fault = Fault::none;
  };

  Block(Engine& engine, const Setting& setting);

  /// Before a step: the cache holds `context` seeded positions of every sequence, and the batch comes after them; a prefill comes first.
  void begin(const Batch& batch, int context);
  /// Back to the positions of `begin`, leaving the cache as it is.
  void rewind(const Batch& batch, int context);

  /// All layers. `join` null: the partial sums are taken for the total, which is right for one rank alone.
  void forward(const Batch& batch, Join* join, const std::function<void(int layer, Stage stage)>& observe = nullptr);

  // The parts of a forward pass, for the check to run one by one.
  void project(int layer, const Batch& batch);          ///< input -> qkv
  void attend(int layer, const Batch& batch);           ///< qkv -> context
  void project_context(int layer, const Batch& batch);  ///< context -> attention_partial
  void expand(int layer, const Batch& batch);           ///< middle -> activation
  void contract(int layer, const Batch& batch);         ///< activation -> mlp_partial
  void add(const Batch& batch, bool joined);            ///< adds what was joined, or the partial sums, to the residual

  /// Row by row, one row a token.
  std::vector<Bf16> read(Stage stage, const Batch& batch);
  void write(Stage stage, const Batch& batch, const std::vector<Bf16>& values);
  std::vector<Bf16> read_normed(const Batch& batch);
  std::vector<Bf16> read_gate_up(const Batch& batch);

  const Setting& setting() const { return setting_; }

 private:
  struct Layer {
    Bf16 *attention_norm, *qkv, *attention_out, *mlp_norm, *gate_up, *down, *keys, *values;
  };

  Layer make_layer(int index);
  Bf16* make(std::initializer_list<Piece> pieces);
  Piece piece(Matrix matrix, int layer, Span rows, Span columns) const;
  Attention attention(const Layer& layer) const;
  Bf16* buffer(Stage stage);
  int width(Stage stage) const;
  void join_and_add(const Batch& batch, Join* join, bool drop);

  Engine& engine_;
  Setting setting_;
  std::vector<Layer> layers_;
  int* positions_ = nullptr;
  Bf16 *start_, *residual_, *normed_, *qkv_, *context_, *partial_, *joined_, *gate_up_, *activation_;
};

}  // namespace transformer
