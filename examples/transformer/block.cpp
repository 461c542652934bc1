#include "block.hpp"

#include <algorithm>
#include <cmath>

namespace transformer {

const char* name_of(Stage stage) {
  constexpr const char* names[stage_count] = {
      "input",      "qkv",         "context",    "attention partial", "attention joined", "residual after attention",
      "activation", "mlp partial", "mlp joined", "residual after mlp"};
  return names[static_cast<int>(stage)];
}

Block::Block(Engine& engine, const Setting& setting) : engine_(engine), setting_(setting) {
  const Shape& shape = setting_.shape;
  const Shard& shard = setting_.shard;
  for (int layer = 0; layer < shape.layers; ++layer) layers_.push_back(make_layer(layer));
  positions_ = engine_.allocate_positions(setting_.limits.sequences);
  const auto tokens = static_cast<std::size_t>(std::max(setting_.limits.sequences, setting_.limits.prefill));
  Piece start = piece(Matrix::input, 0, {0, static_cast<int>(tokens)}, {0, shape.hidden});
  start.scale = std::sqrt(3.0f);
  start_ = make({start});
  for (Bf16** of_hidden : {&residual_, &normed_, &partial_, &joined_}) *of_hidden = engine_.allocate(tokens * shape.hidden);
  qkv_ = engine_.allocate(tokens * width(Stage::qkv));
  context_ = engine_.allocate(tokens * width(Stage::context));
  gate_up_ = engine_.allocate(tokens * 2 * shard.mlp.count);
  activation_ = engine_.allocate(tokens * shard.mlp.count);
}

/// Variance 1/columns of the whole matrix, so that a product has about the variance of what goes in.
Piece Block::piece(Matrix matrix, int layer, Span rows, Span columns) const {
  const Shape& shape = setting_.shape;
  int in = shape.hidden;
  if (matrix == Matrix::attention_out) in = shape.heads * shape.head_dim;
  if (matrix == Matrix::down) in = shape.mlp;
  return {key_of(setting_.seed, matrix, layer), rows, columns, std::sqrt(3.0f / static_cast<float>(in)), 0};
}

/// One matrix of several pieces, one below the other.
Bf16* Block::make(std::initializer_list<Piece> pieces) {
  std::size_t count = 0;
  for (const Piece& piece : pieces) count += std::size_t(piece.rows.count) * piece.columns.count;
  Bf16* matrix = engine_.allocate(count);
  Bf16* next = matrix;
  for (const Piece& piece : pieces) {
    engine_.fill(next, piece);
    next += std::size_t(piece.rows.count) * piece.columns.count;
  }
  return matrix;
}

Block::Layer Block::make_layer(int index) {
  const Shape& shape = setting_.shape;
  const Span all{0, shape.hidden};
  const auto elements = [&](Span heads) { return Span{heads.first * shape.head_dim, heads.count * shape.head_dim}; };
  const Span query = elements(setting_.shard.heads), kv = elements(setting_.shard.kv_heads), mlp = setting_.shard.mlp;
  const auto of = [&](Matrix matrix, Span rows, Span columns) { return piece(matrix, index, rows, columns); };
  const auto norm = [&](Matrix matrix) { return Piece{key_of(setting_.seed, matrix, index), {0, 1}, all, 0.5f, 1.0f}; };
  const Span down = setting_.fault == Fault::wrong_shard ? Span{0, mlp.count} : mlp;
  Layer layer{};
  layer.attention_norm = make({norm(Matrix::attention_norm)});
  layer.qkv = make({of(Matrix::query, query, all), of(Matrix::key, kv, all), of(Matrix::value, kv, all)});
  layer.attention_out = make({of(Matrix::attention_out, all, query)});
  layer.mlp_norm = make({norm(Matrix::mlp_norm)});
  layer.gate_up = make({of(Matrix::gate, mlp, all), of(Matrix::up, mlp, all)});
  layer.down = make({of(Matrix::down, all, down)});
  const std::size_t cache = std::size_t(setting_.limits.sequences) * setting_.limits.capacity * kv.count;
  layer.keys = engine_.allocate(cache);
  layer.values = engine_.allocate(cache);
  return layer;
}

Attention Block::attention(const Layer& layer) const {
  return {qkv_, layer.keys, layer.values, context_, positions_, setting_.shape, setting_.shard, setting_.limits.capacity};
}

void Block::begin(const Batch& batch, int context) {
  const int head_dim = setting_.shape.head_dim;
  const Span columns{setting_.shard.kv_heads.first * head_dim, setting_.shard.kv_heads.count * head_dim};
  for (int index = 0; index < setting_.shape.layers && !batch.is_prefill(); ++index)
    for (int sequence = 0; sequence < batch.sequences; ++sequence) {
      const std::size_t place = std::size_t(sequence) * setting_.limits.capacity * columns.count;
      const auto cached = [&](Matrix matrix) {
        return Piece{key_of(setting_.seed, matrix, index, sequence), {0, context}, columns, std::sqrt(3.0f), 0};
      };
      engine_.fill(layers_[index].keys + place, cached(Matrix::cached_key));
      engine_.fill(layers_[index].values + place, cached(Matrix::cached_value));
    }
  rewind(batch, context);
}

void Block::rewind(const Batch& batch, int context) {
  engine_.set_positions(positions_, batch.sequences, batch.is_prefill() ? 0 : context);
}

void Block::forward(const Batch& batch, Join* join, const std::function<void(int, Stage)>& observe) {
  const auto done = [&](int layer, Stage stage) {
    if (observe) observe(layer, stage);
  };
  engine_.copy(residual_, start_, std::size_t(batch.tokens()) * setting_.shape.hidden);
  for (int layer = 0; layer < setting_.shape.layers; ++layer) {
    done(layer, Stage::input);
    project(layer, batch), done(layer, Stage::qkv);
    attend(layer, batch), done(layer, Stage::context);
    project_context(layer, batch), done(layer, Stage::attention_partial);
    join_and_add(batch, join, setting_.fault == Fault::skip_join && layer == 0);
    done(layer, Stage::attention_joined), done(layer, Stage::middle);
    expand(layer, batch), done(layer, Stage::activation);
    contract(layer, batch), done(layer, Stage::mlp_partial);
    join_and_add(batch, join, false);
    done(layer, Stage::mlp_joined), done(layer, Stage::output);
  }
  if (!batch.is_prefill()) engine_.advance(positions_, batch.sequences);
}

void Block::join_and_add(const Batch& batch, Join* join, bool drop) {
  const std::size_t count = std::size_t(batch.tokens()) * setting_.shape.hidden;
  if (join != nullptr) join->all_reduce(partial_, joined_, count, engine_.stream());
  if (drop) engine_.copy(joined_, partial_, count);
  add(batch, join != nullptr);
}

void Block::add(const Batch& batch, bool joined) {
  engine_.add(residual_, joined ? joined_ : partial_, std::size_t(batch.tokens()) * setting_.shape.hidden);
}

void Block::project(int layer, const Batch& batch) {
  const int tokens = batch.tokens(), hidden = setting_.shape.hidden;
  engine_.rms_norm(residual_, layers_[layer].attention_norm, normed_, tokens, hidden);
  engine_.linear(normed_, layers_[layer].qkv, qkv_, {tokens, hidden, width(Stage::qkv)});
  engine_.rotate(attention(layers_[layer]), batch);
}

void Block::attend(int layer, const Batch& batch) { engine_.attend(attention(layers_[layer]), batch); }

void Block::project_context(int layer, const Batch& batch) {
  engine_.linear(context_, layers_[layer].attention_out, partial_, {batch.tokens(), width(Stage::context), setting_.shape.hidden});
}

void Block::expand(int layer, const Batch& batch) {
  const int tokens = batch.tokens(), hidden = setting_.shape.hidden, columns = setting_.shard.mlp.count;
  engine_.rms_norm(residual_, layers_[layer].mlp_norm, normed_, tokens, hidden);
  engine_.linear(normed_, layers_[layer].gate_up, gate_up_, {tokens, hidden, 2 * columns});
  engine_.swiglu(gate_up_, activation_, tokens, columns);
}

void Block::contract(int layer, const Batch& batch) {
  engine_.linear(activation_, layers_[layer].down, partial_, {batch.tokens(), setting_.shard.mlp.count, setting_.shape.hidden});
}

int Block::width(Stage stage) const {
  const Shard& shard = setting_.shard;
  if (stage == Stage::qkv) return (shard.heads.count + 2 * shard.kv_heads.count) * setting_.shape.head_dim;
  if (stage == Stage::context) return shard.heads.count * setting_.shape.head_dim;
  return stage == Stage::activation ? shard.mlp.count : setting_.shape.hidden;
}

Bf16* Block::buffer(Stage stage) {
  switch (stage) {
    case Stage::qkv:
      return qkv_;
    case Stage::context:
      return context_;
    case Stage::attention_partial:
    case Stage::mlp_partial:
      return partial_;
    case Stage::attention_joined:
    case Stage::mlp_joined:
      return joined_;
    case Stage::activation:
      return activation_;
    default:
      return residual_;
  }
}

std::vector<Bf16> Block::read(Stage stage, const Batch& batch) {
  return engine_.read(buffer(stage), std::size_t(batch.tokens()) * width(stage));
}
void Block::write(Stage stage, const Batch&, const std::vector<Bf16>& values) { engine_.write(buffer(stage), values); }
std::vector<Bf16> Block::read_normed(const Batch& batch) {
  return engine_.read(normed_, std::size_t(batch.tokens()) * setting_.shape.hidden);
}
std::vector<Bf16> Block::read_gate_up(const Batch& batch) {
  return engine_.read(gate_up_, std::size_t(batch.tokens()) * 2 * setting_.shard.mlp.count);
}

}  // namespace transformer
