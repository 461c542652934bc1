// What copy engines carry through host memory, without one: the order of a call's work, checked by happens-before; and the same work done by
// threads, one for each stream, that copy with memcpy.
#include "exec/staged_copies.hpp"

#include <atomic>
#include <cstring>
#include <functional>
#include <map>
#include <set>
#include <thread>
#include <tuple>

#include "comm/impl.hpp"
#include "exec/arguments.hpp"
#include "kernels/copy_body.hpp"
#include "planner/schedule.hpp"
#include "team.hpp"
#include "test.hpp"

using namespace collectives;

namespace {

enum class StagedWork { open, mark, follow, copy_out, copy_in, meet, sum };

struct StagedItem {
  StagedWork work;
  StagedLane lane;
  CopyGroup group{};
  int number = 0;  ///< of the group, or the round
  StagedPoint point{};
};

/// What walk_staged_copies says, written down.
struct StagedNotes {
  std::vector<StagedItem> items;
  void open() { items.push_back({StagedWork::open, StagedLane::caller}); }
  void mark(StagedPoint point, int g, StagedLane lane) { items.push_back({StagedWork::mark, lane, {}, g, point}); }
  void follow(StagedLane lane, StagedPoint point, int g) { items.push_back({StagedWork::follow, lane, {}, g, point}); }
  void copy_out(CopyGroup group, int round) { items.push_back({StagedWork::copy_out, StagedLane::out, group, round}); }
  void copy_in(CopyGroup group, int round) { items.push_back({StagedWork::copy_in, StagedLane::in, group, round}); }
  void meet(int g) { items.push_back({StagedWork::meet, StagedLane::meetings, {}, g}); }
  void sum(CopyGroup group) { items.push_back({StagedWork::sum, StagedLane::caller, group}); }
};

std::vector<StagedItem> staged_work_of(int ranks, int pieces) {
  StagedNotes notes;
  walk_staged_copies(ranks, pieces, notes);
  return notes.items;
}

/// What to leave out, to see that it is missed.
struct StagedFault {
  bool headers = false, words = false, second_buffer = false;
  std::optional<std::pair<StagedLane, StagedPoint>> follow{};
};

/// All ranks' calls, one after the other, by vector clocks: the streams of each rank, and what orders them. Every access to a slot or a buffer must
/// happen after those that it conflicts with, and find there what it wants.
class StagedOrder {
 public:
  StagedOrder(int ranks, bool one_stream, StagedFault fault = {})
      : ranks_(ranks), lanes_(one_stream ? 1 : staged_lanes), fault_(fault), clocks_(at(ranks * lanes_), Clock(at(ranks * lanes_), 0)) {}

  /// An empty string, or the first fault. With a seed a rank does one thing at a time, of whichever stream chance says that may go on: what waits for
  /// peers keeps it.
  std::string run(const std::vector<int>& pieces_by_call, std::optional<std::uint32_t> seed = {}) {
    enqueue(pieces_by_call);
    const auto chance = [&] { return (*seed = *seed * 1664525u + 1013904223u) >> 16; };
    std::vector<int> kept(at(ranks_), -1);
    for (bool moved = true; moved && fault_text_.empty();) {
      moved = false;
      for (int rank = 0; rank < ranks_; ++rank) {
        const int first = kept[at(rank)] >= 0 ? kept[at(rank)] : seed ? static_cast<int>(chance() % static_cast<unsigned>(lanes_)) : 0;
        for (int k = 0; k < lanes_ && fault_text_.empty(); ++k) {
          const int lane = (first + k) % lanes_;
          auto& [items, done] = streams_[at(rank * lanes_ + lane)];
          if (done == items.size()) continue;
          const StagedWork work = items[done].item.work;
          const bool went = take_step(items[done], rank, rank * lanes_ + lane);
          done += went;
          moved = moved || went;
          if (!seed) continue;
          kept[at(rank)] = !went && (work == StagedWork::open || work == StagedWork::meet) ? lane : -1;
          if (went || kept[at(rank)] >= 0) break;
        }
      }
    }
    for (const auto& stream : streams_)
      if (fault_text_.empty() && stream.second < stream.first.size()) fault_text_ = "stuck";
    return fault_text_;
  }

 private:
  using Clock = std::vector<int>;
  using Key = std::tuple<int, int, int, int>;
  using Value = std::tuple<int, bool, int, int, int>;  ///< call, is a total, piece, of which rank, of which chunk
  struct Step {
    StagedItem item;
    int call, pieces;
  };
  struct Place {
    Clock written;
    Value holds{-1, false, 0, 0, 0};
    std::vector<Clock> reads;
  };

  static std::size_t at(int index) { return static_cast<std::size_t>(index); }
  static void merge(Clock& into, const Clock& from) {
    for (std::size_t i = 0; i < into.size(); ++i) into[i] = std::max(into[i], from[i]);
  }
  static bool before(const Clock& a, const Clock& b) {
    for (std::size_t i = 0; i < a.size(); ++i)
      if (a[i] > b[i]) return false;
    return true;
  }

  void enqueue(const std::vector<int>& pieces_by_call) {
    streams_.assign(clocks_.size(), {});
    for (std::size_t call = 0; call < pieces_by_call.size(); ++call)
      for (int rank = 0; rank < ranks_; ++rank)
        for (const StagedItem& item : staged_work_of(ranks_, pieces_by_call[call])) {
          if (item.work == StagedWork::follow && fault_.follow == std::pair(item.lane, item.point)) continue;
          const int lane = lanes_ == 1 ? 0 : static_cast<int>(item.lane);
          streams_[at(rank * lanes_ + lane)].first.push_back({item, static_cast<int>(call), pieces_by_call[call]});
        }
  }

  /// False if it must wait.
  bool take_step(const Step& step, int rank, int stream) {
    const auto& [item, call, pieces] = step;
    Clock& now = clocks_[at(stream)];
    ++now[at(stream)];
    const int peer = (rank + item.number) % ranks_, piece = item.group.piece;
    switch (item.work) {
      case StagedWork::open: return meet({call, -1, 0, 0}, rank, now, fault_.headers);
      case StagedWork::meet: return meet({call, item.number, 0, 0}, rank, now, fault_.words);
      case StagedWork::mark: points_[{rank, call, static_cast<int>(item.point), item.number}] = now; return true;
      case StagedWork::follow: {
        const auto found = points_.find({rank, call, static_cast<int>(item.point), item.number});
        if (found == points_.end()) return false;
        merge(now, found->second);
        return true;
      }
      case StagedWork::copy_out: {
        const bool total = item.group.gathers;
        const int chunk = total ? rank : peer;
        read(buffer(rank, chunk, piece), now, {call, true, piece, rank, rank}, total);
        write(slot(call, rank, item.group, peer), now, {call, total, piece, rank, chunk});
        return true;
      }
      case StagedWork::copy_in: {
        const bool total = item.group.gathers;
        const Value value{call, total, piece, peer, total ? peer : rank};
        read(slot(call, peer, item.group, rank), now, value, true);
        total ? write(buffer(rank, peer, piece), now, {call, true, piece, peer, peer}) : write(operand(rank, piece, peer), now, value);
        return true;
      }
      case StagedWork::sum:
        for (int from = 0; from < ranks_; ++from)
          if (from != rank) read(operand(rank, piece, from), now, {call, false, piece, from, rank}, true);
        write(buffer(rank, rank, piece), now, {call, true, piece, rank, rank});
        return true;
    }
    return false;
  }

  /// Tells what this rank has seen, and waits for all.
  bool meet(const Key& key, int rank, Clock& now, bool leave_out) {
    auto& told = told_[key];
    told.emplace(rank, now);
    if (leave_out) return true;
    if (static_cast<int>(told.size()) < ranks_) return false;
    for (const auto& [other, clock] : told) merge(now, clock);
    return true;
  }

  /// Pieces of another length have their slots elsewhere: in every other call, those for totals are where those for the next rank were.
  Place& slot(int call, int rank, CopyGroup group, int reader) {
    const int next = (rank + 1) % ranks_, all = -1, row = group.gathers ? all : reader;
    return places_[{0, rank, group.piece % buffers(), call % 2 == 0 ? row : row == all ? next : row == next ? all : row}];
  }
  Place& operand(int rank, int piece, int sender) { return places_[{1, rank, piece % buffers(), sender}]; }
  /// In place, the stricter case: an input is overwritten by its total.
  Place& buffer(int rank, int chunk, int piece) { return places_[{2 + chunk, rank, piece, 0}]; }
  int buffers() const { return fault_.second_buffer ? 1 : staged_buffers; }

  void read(Place& place, const Clock& now, const Value& wanted, bool written) {
    if (!place.written.empty() && !before(place.written, now)) fault_text_ = "a read beside a write";
    if (written && place.holds != wanted) fault_text_ = "a read of something else";
    if (!written && std::get<0>(place.holds) == std::get<0>(wanted)) fault_text_ = "an input overwritten before it was read";
    place.reads.push_back(now);
  }
  void write(Place& place, const Clock& now, const Value& value) {
    if (!place.written.empty() && !before(place.written, now)) fault_text_ = "a write beside a write";
    for (const Clock& reader : place.reads)
      if (!before(reader, now)) fault_text_ = "a write beside a read";
    place = {now, value, {}};
  }

  int ranks_, lanes_;
  StagedFault fault_;
  std::vector<Clock> clocks_;
  std::vector<std::pair<std::vector<Step>, std::size_t>> streams_;
  std::map<Key, Clock> points_;
  std::map<Key, std::map<int, Clock>> told_;
  std::map<Key, Place> places_;
  std::string fault_text_;
};

}  // namespace

TEST_CASE("no slot or buffer of staged copies is read early or overwritten late, on any number of ranks", "[exec][copies]") {
  const bool one_stream = GENERATE(false, true);
  for (int ranks = 2; ranks <= 16; ++ranks)
    for (const auto& calls : std::vector<std::vector<int>>{{1, 1, 1}, {2, 1, 3}, {3, 3}, {4, 2, 5}, {7, 1}, {12}}) {
      if (ranks > 8 && calls.size() > 2) continue;
      CAPTURE(ranks, one_stream, calls);
      REQUIRE(StagedOrder(ranks, one_stream).run(calls) == "");
    }
}

TEST_CASE("staged copies come to an end whatever shares a queue with what, one thing at a time", "[exec][copies]") {
  for (const int ranks : {2, 3, 4, 8})
    for (std::uint32_t seed = 0; seed < 100; ++seed) {
      CAPTURE(ranks, seed);
      REQUIRE(StagedOrder(ranks, false).run({3, 1, 4}, seed) == "");
    }
}

TEST_CASE("whatever orders staged copies is missed when it is left out", "[exec][copies]") {
  CHECK(StagedOrder(4, false, {.headers = true}).run({5, 5}) != "");
  CHECK(StagedOrder(4, false, {.words = true}).run({5, 5}) != "");
  CHECK(StagedOrder(4, false, {.second_buffer = true}).run({5, 5}) != "");
  std::set<std::pair<StagedLane, StagedPoint>> follows;
  for (const StagedItem& item : staged_work_of(4, 5))
    if (item.work == StagedWork::follow) follows.insert({item.lane, item.point});
  CHECK(follows.size() == 8);
  for (const auto& follow : follows) {
    CAPTURE(static_cast<int>(follow.first), static_cast<int>(follow.second));
    bool missed = false;
    for (std::uint32_t seed = 0; seed < 20 && !missed; ++seed) missed = StagedOrder(4, false, {.follow = follow}).run({5, 5}, seed) != "";
    CHECK(missed);
  }
}

namespace {

struct StagedAlone {
  static constexpr int thread() { return 0; }
  static constexpr int threads() { return 1; }
  static constexpr void sync() {}
};
struct StagedYield {
  void operator()() const { std::this_thread::yield(); }
};

/// One rank's call as four threads run it, one a stream.
class StagedThreads {
 public:
  StagedThreads(const kernels::CopyCallArgs& args, const StagedCall& call) : args_(args), call_(call) { walk_staged_copies(call.ranks(), call.pieces(), *this); }

  void start(std::vector<std::thread>& threads) const {
    for (const auto& stream : streams_)
      threads.emplace_back([&stream] {
        for (const auto& item : stream) item();
      });
  }

  void open() {
    of(StagedLane::caller).push_back([this] { sync().open(); });
  }
  void meet(int g) {
    of(StagedLane::meetings).push_back([this, g] { sync().meet({~0u, ~0u, static_cast<std::uint32_t>(g)}); });
  }
  void copy_out(CopyGroup group, int round) { move(call_.copy_out(group, round), StagedLane::out); }
  void copy_in(CopyGroup group, int round) { move(call_.copy_in(group, round), StagedLane::in); }
  void sum(CopyGroup group) {
    of(StagedLane::caller).push_back([this, args = call_.sum(group)] {
      if (!dead()) kernels::CopySum<float, kernels::AnyOp, StagedAlone>(args, kernels::AnyOp{args.op}, StagedAlone{}).run();
    });
  }
  void mark(StagedPoint point, int g, StagedLane lane) {
    auto reached = points_[{point, g}] = std::make_shared<std::atomic<bool>>(false);
    of(lane).push_back([reached] { reached->store(true, std::memory_order_release); });
  }
  void follow(StagedLane lane, StagedPoint point, int g) {
    of(lane).push_back([reached = points_.at({point, g})] {
      while (!reached->load(std::memory_order_acquire)) std::this_thread::yield();
    });
  }

 private:
  std::vector<std::function<void()>>& of(StagedLane lane) { return streams_[static_cast<std::size_t>(lane)]; }
  kernels::CopySync<StagedAlone, StagedYield> sync() const { return {args_, StagedAlone{}, StagedYield{}}; }
  void move(const CopySpan& span, StagedLane lane) {
    of(lane).push_back([this, span] {
      if (span.bytes > 0 && !dead()) std::memcpy(span.to, span.from, span.bytes);
    });
  }
  /// An engine goes on copying what nobody will use. A thread that races for it would be reported.
  bool dead() const { return observe_relaxed(&reinterpret_cast<kernels::Control*>(args_.pools[args_.rank])->claimed) != 0; }

  kernels::CopyCallArgs args_;
  const StagedCall& call_;
  std::array<std::vector<std::function<void()>>, staged_lanes> streams_;
  std::map<std::pair<StagedPoint, int>, std::shared_ptr<std::atomic<bool>>> points_;
};

/// Ranks that meet in common memory alone.
class StagedTeam {
 public:
  explicit StagedTeam(int ranks) : records_(static_cast<std::size_t>(ranks)) {
    for (auto* all : {&pools_, &common_})
      for (int rank = 0; rank < ranks; ++rank) all->push_back(make_rank_pool(PoolKind::host, -1, std::size_t{1} << 24, layout_, first_epoch));
    for (int rank = 0; rank < ranks; ++rank) {
      RankContext context{.rank = rank, .ranks = ranks, .timeout_ns = 60'000'000'000u, .first_epoch = first_epoch, .layout = layout_};
      const auto r = static_cast<std::size_t>(rank);
      context.pools[r] = pools_[r].pool->base();
      for (std::size_t peer = 0; peer < common_.size(); ++peer) context.common[peer] = common_[peer].pool->base();
      context.out_of_reach = all_of(ranks) & ~mask_of(rank);
      contexts_.push_back(context);
    }
  }

  /// One call of those ranks whose bit `callers` has.
  void run(const std::vector<Call>& calls, const Plan& plan, const std::vector<Program>& programs, std::uint32_t callers = ~0u) {
    std::vector<std::unique_ptr<StagedCall>> staged;
    std::vector<std::unique_ptr<StagedThreads>> streams;
    std::vector<std::thread> threads;
    for (std::size_t r = 0; r < calls.size(); ++r) {
      if ((callers >> r & 1u) == 0) continue;
      Arguments arguments(contexts_[r], &records_[r]);
      staged.push_back(std::make_unique<StagedCall>(contexts_[r], calls[r], plan, programs[r]));
      streams.push_back(std::make_unique<StagedThreads>(arguments.copies(calls[r], plan), *staged.back()));
    }
    for (const auto& rank : streams) rank->start(threads);
    for (std::thread& thread : threads) thread.join();
  }

  /// From now on.
  void set_timeout(std::uint64_t ns) {
    for (RankContext& context : contexts_) context.timeout_ns = ns;
  }
  const kernels::FaultRecord& record(int rank) const { return records_[static_cast<std::size_t>(rank)]; }

 private:
  static constexpr Epoch first_epoch = 0xfffffff8u;
  static constexpr kernels::Layout layout_{.sentinel_bytes = 4096, .flagged_bytes = 4096, .copy_bytes = 16 << 10};
  std::vector<RankPool> pools_, common_;
  std::vector<RankContext> contexts_;
  std::vector<kernels::FaultRecord> records_;
};

Plan staged_plan(std::size_t piece_bytes) {
  Plan plan;
  plan.choice = {Algorithm::copy_two_shot};
  plan.wire = Wire::flagged;
  plan.tile_bytes = piece_bytes;
  plan.copies = true;
  return plan;
}

}  // namespace

TEST_CASE("staged copies give two-shot's bits, on threads in the place of streams", "[exec][copies]") {
  const int ranks = GENERATE(2, 3, 5);
  const auto programs = lower(two_shot_all_reduce(ranks));
  StagedTeam team(ranks);
  std::uint32_t seed = 0;
  for (const std::size_t count : {1u, 2u, 37u, 1000u, 5003u, 9001u})
    for (const bool in_place : {false, true}) {
      const ReduceOp op = ++seed % 3 == 0 ? ReduceOp::avg : ReduceOp::sum;
      CAPTURE(ranks, count, in_place, name_of(op), seed);
      std::vector<std::vector<float>> in(static_cast<std::size_t>(ranks)), out(in.size(), std::vector<float>(count + 2, -7.0f));
      std::vector<float> expected(count);
      std::vector<Call> calls;
      for (std::size_t r = 0; r < in.size(); ++r)
        for (std::size_t i = 0; i < count; ++i) in[r].push_back(0.1f * static_cast<float>((i * 7 + r * 13 + seed * 31) % 1009) - 50.0f);
      for (std::size_t i = 0; i < count; ++i) {
        expected[i] = in[0][i];
        for (std::size_t r = 1; r < in.size(); ++r) expected[i] += in[r][i];
        if (op == ReduceOp::avg) expected[i] /= static_cast<float>(ranks);
      }
      for (std::size_t r = 0; r < in.size(); ++r) calls.push_back({.in = in[r].data(), .out = in_place ? in[r].data() : out[r].data() + 1, .count = count, .op = op});
      team.run(calls, staged_plan(seed % 2 == 0 ? 512 : 1024), programs);
      for (int rank = 0; rank < ranks; ++rank) {
        const auto r = static_cast<std::size_t>(rank);
        REQUIRE(team.record(rank).kind == 0);
        if (in_place) REQUIRE(in[r] == expected);
        if (in_place) continue;
        REQUIRE(std::vector<float>(out[r].begin() + 1, out[r].end() - 1) == expected);
        REQUIRE((out[r].front() == -7.0f && out[r].back() == -7.0f));
      }
    }
}

TEST_CASE("staged copies of a rank that never calls, or calls otherwise, end with a record that says so", "[exec][copies]") {
  const auto programs = lower(two_shot_all_reduce(3));
  std::vector<std::vector<float>> data(3, std::vector<float>(4000, 1.0f));
  std::vector<Call> calls;
  for (auto& own : data) calls.push_back({.in = own.data(), .out = own.data(), .count = own.size()});
  StagedTeam team(3);
  SECTION("one never calls") {
    team.set_timeout(50'000'000);
    team.run(calls, staged_plan(1024), programs, 0b101);
    for (const int rank : {0, 2}) {
      const auto kind = static_cast<kernels::FaultKind>(team.record(rank).kind);
      // Whoever's deadline passes first tells the other.
      CHECK((kind == kernels::FaultKind::timeout || kind == kernels::FaultKind::poisoned));
      CHECK(team.record(rank).culprit == 1);
    }
  }
  SECTION("one calls otherwise") {
    calls[2].op = ReduceOp::max;
    team.run(calls, staged_plan(1024), programs);
    for (int rank = 0; rank < 3; ++rank) {
      const auto kind = static_cast<kernels::FaultKind>(team.record(rank).kind);
      CHECK((kind == kernels::FaultKind::mismatch || kind == kernels::FaultKind::poisoned));
    }
  }
}
