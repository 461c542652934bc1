#include "check.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <future>
#include <limits>
#include <thread>

namespace transformer {
namespace {

constexpr double u = 0x1p-8, v = 0x1p-23, second_order = 1 + 1.0 / 64, row_norm = 1.7320508 * (1 + u);

double gamma_of(int additions) { return additions * v / (1 - additions * v); }

double value(const std::vector<Bf16>& values, std::size_t index) { return widen(values[index]); }

/// 2-norm of elements first to first + count.
double norm(const std::vector<Bf16>& values, std::size_t first, int count) {
  double sum = 0;
  for (int i = 0; i < count; ++i) sum += value(values, first + i) * value(values, first + i);
  return std::sqrt(sum);
}

std::vector<double> norms(const std::vector<Bf16>& values, int tokens) {
  const int width = static_cast<int>(values.size()) / tokens;
  std::vector<double> lengths;
  for (int t = 0; t < tokens; ++t) lengths.push_back(norm(values, std::size_t(t) * width, width));
  return lengths;
}

/// RMS of a - b, or of a alone.
double rms(const std::vector<Bf16>& a, const std::vector<Bf16>* b = nullptr) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = value(a, i) - (b != nullptr ? value(*b, i) : 0);
    sum += difference * difference;
  }
  return std::sqrt(sum / static_cast<double>(a.size()));
}

const std::vector<Bf16>& at(const Trace& trace, int layer, Stage stage) {
  return trace[static_cast<std::size_t>(layer)][static_cast<std::size_t>(stage)];
}

/// Replays the ranks' stages on one rank and compares.
class Comparison {
 public:
  Comparison(Team& team, Team& alone, const Batch& batch, const std::vector<Trace>& traces, Verdict& verdict)
      : team_(team),
        alone_(alone),
        block_(alone.block(0)),
        shape_(team.setting().shape),
        batch_(batch),
        traces_(traces),
        verdict_(verdict) {}

  void run() {
    alone_.engine(0).make_current();
    block_.begin(batch_, team_.setting().context);
    for (int layer = 0; layer < shape_.layers; ++layer) {
      block_.write(Stage::input, batch_, at(traces_[0], layer, Stage::input));
      block_.project(layer, batch_);
      compare_qkv(layer);
      compare_contexts(layer);
      block_.write(Stage::context, batch_, gathered(layer, Stage::context));
      block_.write(Stage::input, batch_, at(traces_[0], layer, Stage::input));
      block_.project_context(layer, batch_);
      compare_residual(layer, {Stage::context, Stage::attention_partial, Stage::attention_joined, Stage::middle});
      block_.write(Stage::middle, batch_, at(traces_[0], layer, Stage::middle));
      block_.expand(layer, batch_);
      compare_activation(layer);
      block_.write(Stage::activation, batch_, gathered(layer, Stage::activation));
      block_.contract(layer, batch_);
      compare_residual(layer, {Stage::activation, Stage::mlp_partial, Stage::mlp_joined, Stage::output});
    }
  }

 private:
  /// A row-parallel product: what goes in, the ranks' shares, their total, the residual after it.
  struct Half {
    Stage in, partial, joined, out;
  };
  using Bound = std::function<double(int rank, int token, int column, std::size_t index)>;

  const Shard& shard(int rank) const { return team_.block(rank).setting().shard; }
  int columns(int rank, Stage stage) const { return static_cast<int>(at(traces_[std::size_t(rank)], 0, stage).size()) / batch_.tokens(); }

  bool alike(int rank, int layer, Stage stage) const {
    const std::vector<Bf16>&mine = at(traces_[std::size_t(rank)], layer, stage), &first = at(traces_[0], layer, stage);
    return std::memcmp(mine.data(), first.data(), first.size() * sizeof(Bf16)) == 0;
  }

  /// Where a rank's column is in the whole.
  int whole_column(int rank, Stage stage, int column) const {
    const Shard& held = shard(rank);
    const int head_dim = shape_.head_dim;
    if (stage == Stage::activation) return held.mlp.first + column;
    if (stage != Stage::qkv && stage != Stage::context) return column;
    int part = held.heads.count * head_dim;
    if (column < part) return held.heads.first * head_dim + column;
    column -= part;
    part = held.kv_heads.count * head_dim;
    return (shape_.heads + (column < part ? 0 : shape_.kv_heads - held.kv_heads.count) + held.kv_heads.first) * head_dim + column;
  }

  /// Puts a rank's part where it belongs in the whole.
  void place(std::vector<Bf16>& whole, int layer, Stage stage, int rank) const {
    const std::vector<Bf16>& part = at(traces_[std::size_t(rank)], layer, stage);
    const int width = columns(rank, stage), whole_width = static_cast<int>(whole.size()) / batch_.tokens();
    for (int t = 0; t < batch_.tokens(); ++t)
      for (int c = 0; c < width; ++c) whole[std::size_t(t) * whole_width + whole_column(rank, stage, c)] = part[std::size_t(t) * width + c];
  }

  std::vector<Bf16> gathered(int layer, Stage stage) const {
    const int width = stage == Stage::activation ? shape_.mlp : shape_.heads * shape_.head_dim;
    std::vector<Bf16> whole(std::size_t(batch_.tokens()) * width);
    for (int rank = 0; rank < team_.ranks(); ++rank) place(whole, layer, stage, rank);
    return whole;
  }

  /// Compares one rank's part with `whole`. The bound is asked for by token and column and index, all of them of the whole.
  void compare(int layer, Stage stage, int rank, const std::vector<Bf16>& whole, const Bound& bound_of) {
    Worst& worst = verdict_.stages[static_cast<std::size_t>(stage)];
    // A prefill has hundreds of millions of elements.
    const int shares = std::clamp(batch_.tokens() / 64, 1, static_cast<int>(std::thread::hardware_concurrency()) + 1);
    std::vector<std::future<Worst>> found;
    for (int share = 0; share < shares; ++share)
      found.push_back(std::async(shares > 1 ? std::launch::async : std::launch::deferred, [&, share] {
        const Span tokens{batch_.tokens() * share / shares, batch_.tokens() * (share + 1) / shares - batch_.tokens() * share / shares};
        return worst_of({layer, stage, rank}, tokens, whole, bound_of);
      }));
    for (auto& part : found)
      if (const Worst other = part.get(); other.ratio > worst.ratio || worst.layer < 0) worst = other;
  }

  struct Place {
    int layer;
    Stage stage;
    int rank;
  };

  Worst worst_of(const Place& place, Span tokens, const std::vector<Bf16>& whole, const Bound& bound_of) const {
    const std::vector<Bf16>& part = at(traces_[std::size_t(place.rank)], place.layer, place.stage);
    const int width = columns(place.rank, place.stage), whole_width = static_cast<int>(whole.size()) / batch_.tokens();
    Worst worst;
    for (int t = tokens.first; t < tokens.first + tokens.count; ++t)
      for (int c = 0; c < width; ++c) {
        const int column = whole_column(place.rank, place.stage, c);
        const std::size_t index = std::size_t(t) * whole_width + column;
        const double error = std::abs(value(part, std::size_t(t) * width + c) - value(whole, index));
        const double bound = second_order * bound_of(place.rank, t, column, index);
        double ratio = error == 0 ? 0 : error / bound;
        if (!std::isfinite(error) || !std::isfinite(bound)) ratio = std::numeric_limits<double>::infinity();
        if (ratio > worst.ratio || worst.layer < 0) worst = {ratio, error, bound, place.layer, place.rank};
      }
    return worst;
  }

  void compare_qkv(int layer) {
    const std::vector<Bf16> whole = block_.read(Stage::qkv, batch_);
    const std::vector<double> n = norms(block_.read_normed(batch_), batch_.tokens());
    const double sum_error = gamma_of(shape_.hidden) * row_norm;
    const int head_dim = shape_.head_dim, half = head_dim / 2, rotated = (shape_.heads + shape_.kv_heads) * head_dim;
    for (int rank = 0; rank < team_.ranks(); ++rank)
      compare(layer, Stage::qkv, rank, whole, [&](int, int t, int column, std::size_t index) {
        if (column >= rotated) return 2 * u * std::abs(value(whole, index)) + 2 * sum_error * n[std::size_t(t)];
        const std::size_t other = column % head_dim < half ? index + half : index - half;
        return 4 * u * std::hypot(value(whole, index), value(whole, other)) + std::sqrt(8.0) * sum_error * n[std::size_t(t)];
      });
    computed_qkv_ = whole;
  }

  /// With each rank's own queries, keys and values, for two ranks that hold the same key head may have rounded it differently.
  void compare_contexts(int layer) {
    for (int rank = 0; rank < team_.ranks(); ++rank) {
      std::vector<Bf16> qkv = computed_qkv_;
      place(qkv, layer, Stage::qkv, rank);
      block_.write(Stage::qkv, batch_, qkv);
      block_.attend(layer, batch_);
      const std::vector<Bf16> whole = block_.read(Stage::context, batch_);
      if (alone_.engine(0).attends_alike(batch_)) {
        compare(layer, Stage::context, rank, whole, [](int, int, int, std::size_t) { return 0.0; });
        continue;
      }
      const double largest = largest_value(qkv), e = score_error(qkv);
      compare(layer, Stage::context, rank, whole, [&](int, int t, int, std::size_t index) {
        return largest * (4 * e + 2 * u + 4 * gamma_of(t + 1)) + 2 * u * std::abs(value(whole, index));
      });
    }
  }

  double largest_value(const std::vector<Bf16>& qkv) const {
    const int row = (shape_.heads + 2 * shape_.kv_heads) * shape_.head_dim, values = (shape_.heads + shape_.kv_heads) * shape_.head_dim;
    double largest = 0;
    for (std::size_t i = 0; i < qkv.size(); ++i)
      if (static_cast<int>(i % row) >= values) largest = std::max(largest, std::abs(value(qkv, i)));
    return largest;
  }

  /// The largest query's norm times the largest key's, as a score's error.
  double score_error(const std::vector<Bf16>& qkv) const {
    const int head_dim = shape_.head_dim, heads = shape_.heads + 2 * shape_.kv_heads;
    double query = 0, key = 0;
    for (int t = 0; t < batch_.tokens(); ++t)
      for (int head = 0; head < shape_.heads + shape_.kv_heads; ++head) {
        double& longest = head < shape_.heads ? query : key;
        longest = std::max(longest, norm(qkv, (std::size_t(t) * heads + head) * head_dim, head_dim));
      }
    return gamma_of(head_dim + 1) * query * key / std::sqrt(static_cast<double>(head_dim));
  }

  void compare_activation(int layer) {
    const std::vector<Bf16> whole = block_.read(Stage::activation, batch_), gate_up = block_.read_gate_up(batch_);
    const std::vector<double> n = norms(block_.read_normed(batch_), batch_.tokens());
    const double sum_error = gamma_of(shape_.hidden) * row_norm;
    for (int rank = 0; rank < team_.ranks(); ++rank)
      compare(layer, Stage::activation, rank, whole, [&](int, int t, int column, std::size_t index) {
        const std::size_t place = std::size_t(t) * 2 * shape_.mlp + column;
        const double gate = value(gate_up, place), up = std::abs(value(gate_up, place + shape_.mlp));
        const double of_sum = 2 * sum_error * n[std::size_t(t)], off_gate = 2 * u * std::abs(gate) + of_sum, off_up = 2 * u * up + of_sum;
        const double silu = std::abs(gate) / (1 + std::exp(-gate));
        return 1.1 * off_gate * (up + off_up) + silu * off_up + 2 * u * std::abs(value(whole, index));
      });
  }

  /// Expects the residual before this half and the one rank's product in the block.
  void compare_residual(int layer, const Half& half) {
    const std::vector<Bf16> product = block_.read(half.partial, batch_);
    block_.add(batch_, false);
    const std::vector<Bf16> whole = block_.read(half.out, batch_);
    const std::vector<Bf16> in = gathered(layer, half.in);
    const std::vector<double> a = norms(in, batch_.tokens());
    const double sum_error = 2 * gamma_of(static_cast<int>(in.size()) / batch_.tokens()) * row_norm;
    const int ranks = team_.ranks(), roundings = team_.adds_at_once(batch_) ? 1 : ranks;
    for (int rank = 0; rank < ranks; ++rank) {
      // What has rank 0's bits has rank 0's verdict.
      if (rank > 0 && alike(rank, layer, half.joined) && alike(rank, layer, half.out)) continue;
      compare(layer, half.out, rank, whole, [&](int of, int t, int, std::size_t index) {
        double partials = 0;
        for (const Trace& trace : traces_) partials += std::abs(value(at(trace, layer, half.partial), index));
        const Trace& trace = traces_[std::size_t(of)];
        const Stage total = ranks > 1 ? half.joined : half.partial;
        const double totals = std::abs(value(at(trace, layer, total), index)) + std::abs(value(product, index));
        const double residuals = std::abs(value(at(trace, layer, half.out), index)) + std::abs(value(whole, index));
        return partials * (u * roundings + ranks * v) + u * (totals + residuals) + sum_error * a[std::size_t(t)];
      });
    }
  }

  Team& team_;
  Team& alone_;
  Block& block_;
  const Shape& shape_;
  const Batch& batch_;
  const std::vector<Trace>& traces_;
  Verdict& verdict_;
  std::vector<Bf16> computed_qkv_;
};

/// The recursion of check.hpp, along one rank's own residuals.
double drift_bound_of(const Trace& trace) {
  constexpr double c = 0.18 * u * u;
  double square = 0;
  const auto half = [&](const std::vector<Bf16>& before, const std::vector<Bf16>& after) {
    const double q = std::pow(rms(after, &before) / rms(before), 2);
    square = (square * (1 + 3 * q) + c * (15 * q + 2 * (1 + q))) / (1 + q);
  };
  for (int layer = 0; layer < static_cast<int>(trace.size()); ++layer) {
    half(at(trace, layer, Stage::input), at(trace, layer, Stage::middle));
    half(at(trace, layer, Stage::middle), at(trace, layer, Stage::output));
  }
  return 2 * std::sqrt(square);
}

Drift drift_of(const Trace& trace, const Trace& whole) {
  const int last = static_cast<int>(whole.size()) - 1;
  const std::vector<Bf16>& expected = at(whole, last, Stage::output);
  return {rms(at(trace, last, Stage::output), &expected) / rms(expected), drift_bound_of(whole)};
}

std::size_t unequal_residuals(const std::vector<Trace>& traces) {
  std::size_t unequal = 0;
  for (const Trace& trace : traces)
    for (int layer = 0; layer < static_cast<int>(trace.size()); ++layer)
      for (Stage stage : {Stage::middle, Stage::output}) {
        const std::vector<Bf16>&mine = at(trace, layer, stage), &first = at(traces[0], layer, stage);
        for (std::size_t i = 0; i < mine.size(); ++i) unequal += mine[i].bits != first[i].bits;
      }
  return unequal;
}

}  // namespace

bool Verdict::passed() const {
  const bool within = std::all_of(stages.begin(), stages.end(), [](const Worst& worst) { return worst.ratio <= 1; });
  return within && unequal == 0 && replays_alike && drift.passed();
}

Verdict check(Team& team, Team& alone, const Batch& batch) {
  const std::vector<Trace> traces = team.record(batch);
  const Trace whole = alone.record(batch).front();
  Verdict verdict;
  Comparison(team, alone, batch, traces, verdict).run();
  verdict.unequal = unequal_residuals(traces);
  verdict.drift = drift_of(traces[0], whole);
  verdict.replays_alike = team.replays_alike(batch, traces);
  return verdict;
}

Drift drift_from(Team& alone, Team& team, const Batch& batch) { return drift_of(team.record(batch).front(), alone.record(batch).front()); }

}  // namespace transformer
