#include "perf/beside.hpp"

#include <algorithm>
#include <cmath>
#include <collectives/error.hpp>

#include "perf/cuda_checked.hpp"

namespace perf {
namespace {

using collectives::Error;
using collectives::ErrorCode;

constexpr double deadline_s = 30;
constexpr std::uint8_t poison = 0x7b;  // no sum of small integers looks like this
constexpr int parts_of_a_window = 16;  // at least so many replays while the products run
constexpr int most_replays = 400;      // what a stream's queue surely holds

}  // namespace

/// One rank's points in time: where its products begin and end, and where each replay of all-reduces does.
struct Beside::Marks {
  std::unique_ptr<OwnedEvent> begin = std::make_unique<OwnedEvent>(), end = std::make_unique<OwnedEvent>();
  std::vector<std::unique_ptr<OwnedEvent>> replays;  ///< the first one is before the products

  /// Replays that ended while the products ran: of the one that was under way the part that had passed.
  double replays_in_time() const {
    double before = -elapsed_us(*replays.front(), *begin);
    const double window = elapsed_us(*begin, *end);
    for (std::size_t i = 1; i < replays.size(); ++i) {
      const double at = elapsed_us(*begin, *replays[i]);
      if (at >= window) return static_cast<double>(i - 1) + (window - before) / (at - before);
      before = at;
    }
    return -1;
  }
};

Call Beside::call_of(const Contender& contender, std::size_t rank, std::size_t count) const {
  const RankBuffers& buffers = contender.buffers(static_cast<int>(rank));
  return {.in = {buffers.in, count, DataType::bfloat16},
          .out = {buffers.out, count, DataType::bfloat16},
          .op = ReduceOp::sum,
          .stream = worker_.places[rank]->stream(),
          .count = count,
          .root = 0,
          .rank = static_cast<int>(rank),
          .ranks = worker_.layout->ranks()};
}

std::vector<int> Beside::capture(Contender& contender, std::size_t count, int calls) {
  for (auto& place : worker_.places) {
    place->make_current();
    place->begin_capture();
  }
  for (int i = 0; i < calls; ++i) {
    contender.begin_call();
    for (std::size_t rank = 0; rank < worker_.places.size(); ++rank)
      contender.enqueue(static_cast<int>(rank), call_of(contender, rank, count));
    contender.end_call();
  }
  std::vector<int> graphs;
  for (auto& place : worker_.places) {
    place->make_current();
    graphs.push_back(place->end_capture());
  }
  return graphs;
}

void Beside::wait(Contender& contender) {
  for (int rank = 0; rank < worker_.local_ranks(); ++rank) contender.wait(rank);
}

double Beside::product_alone() {
  for (auto& product : products_) {
    product->place().make_current();
    product->place().start();
    product->replay();
    product->place().stop();
  }
  double slowest_us = 0;
  for (auto& product : products_) {
    product->place().make_current();
    product->place().wait(deadline_s);
    slowest_us = std::max(slowest_us, product->place().elapsed_us() / in_a_row_);
  }
  return slowest_us;
}

double Beside::call_alone(Contender& contender, const std::vector<int>& graphs, int replays) {
  // The first replay lets all ranks begin together.
  for (int replay = 0; replay <= replays; ++replay)
    for (std::size_t rank = 0; rank < graphs.size(); ++rank) {
      Place& place = *worker_.places[rank];
      place.make_current();
      place.replay(graphs[rank]);
      if (replay == 0) place.start();
      if (replay == replays) place.stop();
    }
  wait(contender);
  double slowest_us = 0;
  for (auto& place : worker_.places) {
    place->make_current();
    slowest_us = std::max(slowest_us, place->elapsed_us() / replays);
  }
  return slowest_us;
}

/// An event is of the device that was current when it was made, and only that one's streams can record it.
std::vector<Beside::Marks> Beside::make_marks() {
  std::vector<Marks> marks;
  for (auto& place : worker_.places) {
    place->make_current();
    marks.emplace_back();
  }
  return marks;
}

/// The products begin where the first replay has ended, amid all-reduces, and must end amid them: `replays` is raised until they do.
Beside::Window Beside::together(Contender& contender, const std::vector<int>& graphs, int& replays) {
  for (; replays <= most_replays; replays *= 2) {
    std::vector<Marks> marks = make_marks();
    for (int replay = 0; replay <= replays; ++replay)
      for (std::size_t rank = 0; rank < graphs.size(); ++rank) {
        Place& place = *worker_.places[rank];
        place.make_current();
        place.replay(graphs[rank]);
        auto& mark = marks[rank].replays.emplace_back(std::make_unique<OwnedEvent>());
        checked(cudaEventRecord(mark->get(), place.stream()));
        if (replay > 0) continue;
        Product& product = *products_[rank];
        checked(cudaStreamWaitEvent(product.place().stream(), mark->get(), 0));
        checked(cudaEventRecord(marks[rank].begin->get(), product.place().stream()));
        product.replay();
        checked(cudaEventRecord(marks[rank].end->get(), product.place().stream()));
      }
    wait(contender);
    Window slowest{0, 0};
    bool covered = true;
    for (std::size_t rank = 0; rank < graphs.size(); ++rank) {
      products_[rank]->place().make_current();
      products_[rank]->place().wait(deadline_s);
      const double us = elapsed_us(*marks[rank].begin, *marks[rank].end), ended = marks[rank].replays_in_time();
      covered = covered && ended >= 0;
      if (us > slowest.product_us) slowest = {us, ended};
    }
    if (covered) return slowest;
  }
  throw Error(ErrorCode::internal, "the all-reduces ended before the products beside them");
}

void Beside::prepare(Contender& contender, std::size_t count, const Payload& payload) {
  for (std::size_t rank = 0; rank < worker_.places.size(); ++rank) {
    Place& place = *worker_.places[rank];
    const Call call = call_of(contender, rank, count);
    place.set(call.out.data, poison, count * collectives::size_of(payload.type));
    place.fill_with(const_cast<void*>(call.in.data), count, payload, static_cast<int>(rank));
  }
}

BesideResult Beside::run(Contender& contender, std::size_t count, int repetitions) {
  const Payload payload{.type = DataType::bfloat16, .op = ReduceOp::sum, .ranks = worker_.layout->ranks(), .call = next_call_++};
  prepare(contender, count, payload);
  const double window_us = product_alone() * in_a_row_;
  const std::vector<int> single = capture(contender, count, 1);
  (void)call_alone(contender, single, 2);
  const double call_us = call_alone(contender, single, 3);
  const int calls = std::clamp(static_cast<int>(window_us / parts_of_a_window / call_us), 1, 100);
  const std::vector<int> graphs = capture(contender, count, calls);
  int replays = std::max(static_cast<int>(std::ceil(2 * window_us / (calls * call_us))), 4);
  (void)together(contender, graphs, replays);

  std::vector<double> product_us, call_alone_us, product_beside_us, call_beside_us, finished, cost_us;
  for (int repetition = 0; repetition < repetitions; ++repetition) {
    product_us.push_back(product_alone());
    call_alone_us.push_back(call_alone(contender, graphs, std::max(2, replays / 4)) / calls);
    const Window window = together(contender, graphs, replays);
    product_beside_us.push_back(window.product_us / in_a_row_);
    finished.push_back(window.calls * calls / in_a_row_);
    call_beside_us.push_back(product_beside_us.back() / finished.back());
    cost_us.push_back((product_beside_us.back() - product_us.back()) / finished.back());
  }
  BesideResult result{summarize(product_us),
                      summarize(product_beside_us),
                      summarize(call_alone_us),
                      summarize(call_beside_us),
                      summarize(finished),
                      summarize(cost_us),
                      0};
  for (std::size_t rank = 0; rank < worker_.places.size(); ++rank) {
    worker_.places[rank]->make_current();
    worker_.places[rank]->forget_graphs();
    result.wrong += worker_.places[rank]->wrong(call_of(contender, rank, count).out.data, count, payload, all_ranks);
  }
  return result;
}

}  // namespace perf
