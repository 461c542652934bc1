// CPU ranks: plain loops that read bf16, add up in fp32 and round once.
#include <algorithm>
#include <cmath>

#include "engine.hpp"

namespace transformer {

std::vector<float> rotations(int capacity, int head_dim) {
  std::vector<float> pairs;
  for (int position = 0; position < capacity; ++position)
    for (int i = 0; i < head_dim / 2; ++i) {
      const double angle = position * std::pow(10000.0, -2.0 * i / head_dim);
      pairs.push_back(static_cast<float>(std::cos(angle)));
      pairs.push_back(static_cast<float>(std::sin(angle)));
    }
  return pairs;
}

namespace {

float dot(const Bf16* a, const Bf16* b, int count) {
  float sum = 0;
  for (int i = 0; i < count; ++i) sum += widen(a[i]) * widen(b[i]);
  return sum;
}

class HostEngine final : public Engine {
 public:
  HostEngine(const Shape& shape, const Limits& limits) : turns_(rotations(limits.capacity, shape.head_dim)) {}

  collectives::Stream stream() const override { return nullptr; }
  void make_current() override {}
  void wait() override {}

  Bf16* allocate(std::size_t count) override { return memory_.emplace_back(count).data(); }
  int* allocate_positions(int sequences) override { return positions_.emplace_back(sequences).data(); }

  void fill(Bf16* to, const Piece& piece) override {
    for (int row = 0; row < piece.rows.count; ++row)
      for (int column = 0; column < piece.columns.count; ++column) *to++ = value_of(piece, row, column);
  }

  void copy(Bf16* to, const Bf16* from, std::size_t count) override { std::copy_n(from, count, to); }
  void write(Bf16* to, const std::vector<Bf16>& from) override { std::copy(from.begin(), from.end(), to); }
  std::vector<Bf16> read(const Bf16* from, std::size_t count) override { return {from, from + count}; }
  void set_positions(int* positions, int sequences, int position) override { std::fill_n(positions, sequences, position); }

  void advance(int* positions, int sequences) override {
    for (int i = 0; i < sequences; ++i) ++positions[i];
  }

  void rms_norm(const Bf16* x, const Bf16* gain, Bf16* out, int tokens, int hidden) override {
    for (int t = 0; t < tokens; ++t, x += hidden, out += hidden) {
      const float scale = 1 / std::sqrt(dot(x, x, hidden) / static_cast<float>(hidden) + 1e-5f);
      for (int i = 0; i < hidden; ++i) out[i] = narrow(widen(x[i]) * scale * widen(gain[i]));
    }
  }

  void linear(const Bf16* x, const Bf16* w, Bf16* y, const Product& product) override {
    for (int t = 0; t < product.tokens; ++t)
      for (int o = 0; o < product.out; ++o)
        *y++ = narrow(dot(x + std::size_t(t) * product.in, w + std::size_t(o) * product.in, product.in));
  }

  void rotate(const Attention& a, const Batch& batch) override {
    const int half = a.shape.head_dim / 2;
    for (int t = 0; t < batch.tokens(); ++t) {
      const float* turn = turns_.data() + std::size_t(position_of(a, batch, t)) * a.shape.head_dim;
      for (int head = 0; head < a.shard.heads.count + a.shard.kv_heads.count; ++head) {
        Bf16* low = a.qkv + std::size_t(t) * a.row() + std::size_t(head) * a.shape.head_dim;
        for (int i = 0; i < half; ++i) {
          const float x = widen(low[i]), y = widen(low[i + half]), cosine = turn[2 * i], sine = turn[2 * i + 1];
          low[i] = narrow(x * cosine - y * sine);
          low[i + half] = narrow(y * cosine + x * sine);
        }
      }
    }
  }

  void attend(const Attention& a, const Batch& batch) override {
    const int head_dim = a.shape.head_dim;
    for (int t = 0; t < batch.tokens(); ++t) {
      const Bf16* fresh = a.qkv + std::size_t(t) * a.row() + std::size_t(a.shard.heads.count) * head_dim;
      const std::size_t place = (std::size_t(t / batch.each) * a.capacity + position_of(a, batch, t)) * a.cache_row();
      std::copy_n(fresh, a.cache_row(), a.keys + place);
      std::copy_n(fresh + a.cache_row(), a.cache_row(), a.values + place);
    }
    for (int t = 0; t < batch.tokens(); ++t)
      for (int head = 0; head < a.shard.heads.count; ++head) {
        const std::size_t cache = std::size_t(t / batch.each) * a.capacity * a.cache_row() + std::size_t(a.kv_of(head)) * head_dim;
        attend_one(a, a.qkv + std::size_t(t) * a.row() + std::size_t(head) * head_dim, cache, position_of(a, batch, t) + 1);
        for (int i = 0; i < head_dim; ++i) a.context[(std::size_t(t) * a.shard.heads.count + head) * head_dim + i] = narrow(sum_[i]);
      }
  }

  void swiglu(const Bf16* gate_up, Bf16* out, int tokens, int width) override {
    for (int t = 0; t < tokens; ++t, gate_up += 2 * width)
      for (int i = 0; i < width; ++i) {
        const float gate = widen(gate_up[i]);
        *out++ = narrow(gate / (1 + std::exp(-gate)) * widen(gate_up[width + i]));
      }
  }

  void add(Bf16* x, const Bf16* y, std::size_t count) override {
    for (std::size_t i = 0; i < count; ++i) x[i] = narrow(widen(x[i]) + widen(y[i]));
  }

  std::function<void()> capture(const std::function<void()>& step) override { return step; }
  bool attends_alike(const Batch&) const override { return true; }

 private:
  static int position_of(const Attention& a, const Batch& batch, int token) { return a.positions[token / batch.each] + token % batch.each; }

  /// Leaves in sum_ one head's values, weighted by the softmax of its scores over `length` positions.
  void attend_one(const Attention& a, const Bf16* query, std::size_t cache, int length) {
    const int head_dim = a.shape.head_dim;
    weights_.resize(static_cast<std::size_t>(length));
    for (int p = 0; p < length; ++p)
      weights_[p] = dot(query, a.keys + cache + std::size_t(p) * a.cache_row(), head_dim) / std::sqrt(static_cast<float>(head_dim));
    const float top = *std::max_element(weights_.begin(), weights_.end());
    float total = 0;
    for (float& weight : weights_) total += weight = std::exp(weight - top);
    sum_.assign(static_cast<std::size_t>(head_dim), 0);
    for (int p = 0; p < length; ++p)
      for (int i = 0; i < head_dim; ++i) sum_[i] += weights_[p] / total * widen(a.values[cache + std::size_t(p) * a.cache_row() + i]);
  }

  std::vector<float> turns_;
  std::vector<std::vector<Bf16>> memory_;
  std::vector<std::vector<int>> positions_;
  std::vector<float> weights_, sum_;
};

}  // namespace

std::unique_ptr<Engine> make_host_engine(const Shape& shape, const Limits& limits) { return std::make_unique<HostEngine>(shape, limits); }

}  // namespace transformer
