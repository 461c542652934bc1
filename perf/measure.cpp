#include "perf/measure.hpp"

#include <algorithm>

#include "perf/extent.hpp"
#include "perf/stopwatch.hpp"

namespace perf {
namespace {

/// No result looks like this: large in floating types, positive and odd in integers.
constexpr std::uint8_t poison = 0x7b;

}  // namespace

std::size_t Measurement::figures(const Settings& settings) { return 2 * static_cast<std::size_t>(repetitions(settings)) + 1; }

Call Measurement::call_of(const Contender& contender, int local, const Shape& shape) const {
  const RankBuffers& buffers = contender.buffers(local);
  const int ranks = worker_.layout->ranks(), rank = rank_of(local), root = worker_.settings->root;
  const std::size_t size = collectives::size_of(shape.type), offset = worker_.settings->unalign * size;
  const Extent extent = extent_of(collective_.kind, rank, ranks, shape.count, root);
  const bool shared = shape.in_place && extent.shares;
  const std::byte* in = shared ? buffers.out + offset + extent.in_begins * size : buffers.in + offset;
  std::byte* out = buffers.out + offset + (shared ? extent.out_begins * size : 0);
  return {.in = {in, extent.in, shape.type},
          .out = {out, extent.out, shape.type},
          .op = shape.op,
          .stream = worker_.places[static_cast<std::size_t>(local)]->stream(),
          .count = shape.count,
          .root = root,
          .rank = rank,
          .ranks = ranks};
}

void Measurement::enqueue(Contender& contender, const Shape& shape, int calls) {
  for (int i = 0; i < calls; ++i) {
    contender.begin_call();
    for (int local = 0; local < worker_.local_ranks(); ++local) contender.enqueue(local, call_of(contender, local, shape));
    contender.end_call();
    if (worker_.settings->blocking) wait(contender);
  }
}

void Measurement::wait(Contender& contender) {
  for (int local = 0; local < worker_.local_ranks(); ++local) contender.wait(local);
}

std::vector<int> Measurement::capture(Contender& contender, const Shape& shape, int calls) {
  for (auto& place : worker_.places) {
    place->make_current();
    place->begin_capture();
  }
  enqueue(contender, shape, calls);
  std::vector<int> graphs;
  for (auto& place : worker_.places) {
    place->make_current();
    graphs.push_back(place->end_capture());
  }
  return graphs;
}

void Measurement::time(Contender& contender, const Shape& shape, const Batch& batch, Figures& figures) {
  worker_.board->barrier();
  for (std::size_t local = 0; local < worker_.places.size(); ++local) {
    Place& place = *worker_.places[local];
    place.make_current();
    // Streams start together: a rank's clock must not run while another is still being launched.
    if (worker_.layout->on_gpu()) worker_.communicators[local].barrier(place.stream());
    place.start();
    if (batch.graphs.empty()) continue;
    place.replay(batch.graphs[local]);
    place.stop();
  }
  const Stopwatch enqueuing;
  if (batch.graphs.empty()) enqueue(contender, shape, batch.calls);
  const double host_us = batch.graphs.empty() ? enqueuing.us() / batch.calls / worker_.local_ranks() : 0;
  if (batch.graphs.empty())
    for (auto& place : worker_.places) {
      place->make_current();
      place->stop();
    }
  for (int local = 0; local < worker_.local_ranks(); ++local) {
    contender.wait(local);
    auto& row = figures[static_cast<std::size_t>(local)];
    row.push_back(worker_.places[static_cast<std::size_t>(local)]->elapsed_us() / batch.calls);
    row.push_back(host_us);
  }
}

void Measurement::prepare(Contender& contender, const Shape& shape, const Payload& payload) {
  for (int local = 0; local < worker_.local_ranks(); ++local) {
    Place& place = *worker_.places[static_cast<std::size_t>(local)];
    const Call call = call_of(contender, local, shape);
    std::byte* begin = contender.buffers(local).out + worker_.settings->unalign * collectives::size_of(shape.type);
    place.set(begin - guard_bytes, poison, shape.bytes() + 2 * guard_bytes);
    place.fill_with(const_cast<void*>(call.in.data), call.in.count, payload, rank_of(local));
  }
}

std::uint64_t Measurement::count_faults(Contender& contender, int local, const Shape& shape, const Payload& payload) {
  Place& place = *worker_.places[static_cast<std::size_t>(local)];
  const Call call = call_of(contender, local, shape);
  const std::size_t size = collectives::size_of(shape.type);
  const auto* out = static_cast<const std::byte*>(call.out.data);
  const Extent extent = extent_of(collective_.kind, call.rank, call.ranks, shape.count, call.root);
  const bool shared = shape.in_place && extent.shares;
  std::uint64_t faults = 0;
  for (const Piece& piece : pieces_of(collective_.kind, call.rank, call.ranks, shape.count, call.root)) {
    Payload part = payload;
    part.first = piece.first;
    faults += place.wrong(out + piece.at * size, piece.count, part, piece.of);
  }
  const std::byte* begin = contender.buffers(local).out + worker_.settings->unalign * size;
  faults += place.altered(begin - guard_bytes, guard_bytes, poison);
  faults += place.altered(begin + (shared ? std::max(extent.in, extent.out) : extent.out) * size, guard_bytes, poison);
  if (!shared) faults += place.wrong(call.in.data, call.in.count, payload, call.rank);
  return faults;
}

void Measurement::check(Contender& contender, const Shape& shape, bool in_graph, std::vector<double>& wrong) {
  const std::vector<int> graphs = in_graph ? capture(contender, shape, 1) : std::vector<int>{};
  // A graph is checked twice: a replay that depended on the first one's state would show in the second.
  const int calls = worker_.settings->checks + (in_graph ? 1 : 0);
  for (int i = 0; i < calls; ++i) {
    const Payload payload{.type = shape.type, .op = shape.op, .ranks = worker_.layout->ranks(), .call = next_call_++};
    prepare(contender, shape, payload);
    // Nothing but the collective itself may run on a GPU that ranks share while others wait for a rank.
    worker_.board->barrier();
    if (in_graph)
      for (std::size_t local = 0; local < worker_.places.size(); ++local) {
        worker_.places[local]->make_current();
        worker_.places[local]->replay(graphs[local]);
      }
    else
      enqueue(contender, shape, 1);
    wait(contender);
    worker_.board->barrier();
    for (int local = 0; local < worker_.local_ranks(); ++local)
      wrong[static_cast<std::size_t>(local)] += static_cast<double>(count_faults(contender, local, shape, payload));
  }
}

Measurement::Batch Measurement::warm_up(Contender& contender, const Shape& shape) {
  const Settings& settings = *worker_.settings;
  // Small numbers again: a batch must not depend on what the line before left in the buffers.
  prepare(contender, shape, {.type = shape.type, .op = shape.op, .ranks = worker_.layout->ranks(), .call = next_call_++});
  worker_.board->barrier();
  enqueue(contender, shape, settings.warmups);
  wait(contender);
  worker_.board->barrier();
  Batch batch{.calls = calls_per_batch(settings, shape.bytes(), worker_.layout->on_gpu()), .graphs = {}};
  if (!graphs()) return batch;
  batch.graphs = capture(contender, shape, batch.calls);
  Figures unrecorded(worker_.places.size());
  time(contender, shape, batch, unrecorded);
  return batch;
}

Result Measurement::gather(const Figures& mine, bool checked) {
  auto all = worker_.board->gather(worker_.first_rank, mine);
  Result result{.time_us = {}, .host_us = 0, .wrong = 0, .checked = checked};
  for (auto& row : all) {
    result.wrong += static_cast<std::uint64_t>(row.back());
    row.pop_back();
  }
  std::vector<double> times, host_times;
  const std::vector<double> worst = slowest(all);
  for (std::size_t i = 0; i < worst.size(); ++i) (i % 2 == 0 ? times : host_times).push_back(worst[i]);
  result.time_us = summarize(times);
  result.host_us = summarize(host_times).median;
  return result;
}

std::vector<Result> Measurement::run(const Shape& shape) {
  std::vector<Batch> batches;
  for (auto& contender : contenders_) batches.push_back(warm_up(*contender, shape));
  std::vector<Figures> figures(contenders_.size(), Figures(worker_.places.size()));
  for (int repetition = 0; repetition < repetitions(*worker_.settings); ++repetition)
    for (std::size_t c = 0; c < contenders_.size(); ++c) time(*contenders_[c], shape, batches[c], figures[c]);

  std::vector<Result> results;
  for (std::size_t c = 0; c < contenders_.size(); ++c) {
    std::vector<double> wrong(worker_.places.size(), 0);
    const bool checked = worker_.settings->checks > 0 && (!collectives::reduces(collective_.kind) || contenders_[c]->exact(shape.op));
    if (checked) check(*contenders_[c], shape, false, wrong);
    if (checked && graphs()) check(*contenders_[c], shape, true, wrong);
    for (std::size_t local = 0; local < wrong.size(); ++local) figures[c][local].push_back(wrong[local]);
    results.push_back(gather(figures[c], checked));
  }
  for (auto& place : worker_.places) {
    place->make_current();
    place->forget_graphs();
  }
  return results;
}

}  // namespace perf
