// What copy engines carry, without one: the order of a call's work, checked by happens-before; and the same work done by threads,
// one for each stream, that copy with memcpy.
#include "exec/copies.hpp"

#include <array>
#include <atomic>
#include <cstring>
#include <functional>
#include <map>
#include <thread>
#include <tuple>

#include "base/require.hpp"
#include "kernels/copy_body.hpp"
#include "planner/schedule.hpp"
#include "team.hpp"
#include "test.hpp"

using namespace collectives;

namespace {

enum class Work { open, fork, join, copy, sum, take, meet, tell, await, consumed, follow };

struct Item {
  Work work;
  int group = 0;
  CopyGroup what{};
  int round = 0;
  bool copying = false;  ///< on that stream, not the caller's
};

/// What walk_copies says, written down.
struct Notes {
  std::vector<Item> items;
  void open() { items.push_back({.work = Work::open}); }
  void fork() { items.push_back({.work = Work::fork, .copying = true}); }
  void join() { items.push_back({.work = Work::join}); }
  void copy(int g, CopyGroup what, int round) { items.push_back({Work::copy, g, what, round, true}); }
  void sum(int g, CopyGroup what) { items.push_back({.work = Work::sum, .group = g, .what = what}); }
  void take(int g, CopyGroup what, int round) { items.push_back({Work::take, g, what, round, false}); }
  void meet(int g) { items.push_back({.work = Work::meet, .group = g, .copying = true}); }
  void tell(int g, int round) { items.push_back({.work = Work::tell, .group = g, .round = round, .copying = true}); }
  void await(int g, int round) { items.push_back({.work = Work::await, .group = g, .round = round}); }
  void consumed(int g) { items.push_back({.work = Work::consumed, .group = g}); }
  void follow(int g) { items.push_back({.work = Work::follow, .group = g, .copying = true}); }
};

std::vector<Item> work_of(int ranks, int pieces) {
  Notes notes;
  walk_copies(ranks, pieces, notes);
  return notes.items;
}

/// What to leave out, to see that it is missed.
enum class Fault { none, awaited_early, headers, arrivals, totals_early, told_early, joins, third_buffer };

/// All ranks' calls, one after the other, by vector clocks: two streams a rank, and what orders them. Every access to a slot or to
/// a buffer must happen after those that it conflicts with.
class OrderCheck {
 public:
  OrderCheck(int ranks, bool one_stream, Fault fault = Fault::none) : ranks_(ranks), one_stream_(one_stream), fault_(fault), clocks_(at(2 * ranks), Clock(at(2 * ranks), 0)) {}

  /// An empty string, or the first fault.
  std::string run(const std::vector<int>& pieces_by_call) {
    const auto streams = enqueue(pieces_by_call);
    std::vector<std::size_t> done(streams.size(), 0);
    for (bool moved = true; moved && fault_text_.empty();) {
      moved = false;
      for (std::size_t s = 0; s < streams.size(); ++s)
        while (done[s] < streams[s].size() && fault_text_.empty() && take_step(streams[s][done[s]], static_cast<int>(s))) {
          ++done[s];
          moved = true;
        }
    }
    for (std::size_t s = 0; s < streams.size() && fault_text_.empty(); ++s)
      if (done[s] < streams[s].size()) fault_text_ = "stuck";
    return fault_text_;
  }

  /// The same where a rank does one thing at a time, of whichever stream chance says that may go on: what waits for peers keeps it.
  std::string run_one_at_a_time(const std::vector<int>& pieces_by_call, std::uint32_t seed) {
    constexpr std::size_t nobody = SIZE_MAX;
    const auto streams = enqueue(pieces_by_call);
    std::vector<std::size_t> done(streams.size(), 0), kept(at(ranks_), nobody);
    const auto chance = [&] { return (seed = seed * 1664525u + 1013904223u) >> 16; };
    const auto waits_for_peers = [](Work work) { return work == Work::open || work == Work::meet || work == Work::await; };
    for (bool moved = true; moved && fault_text_.empty();) {
      moved = false;
      for (std::size_t rank = 0; rank < at(ranks_); ++rank) {
        std::size_t s = kept[rank] != nobody ? kept[rank] : 2 * rank + chance() % 2;
        for (int tries = 0; tries < 2 && fault_text_.empty(); ++tries, s ^= 1u) {
          if (done[s] == streams[s].size()) continue;
          const Step& step = streams[s][done[s]];
          const bool went = take_step(step, static_cast<int>(s));
          if (went) ++done[s];
          kept[rank] = !went && waits_for_peers(step.item.work) ? s : nobody;
          moved = moved || went;
          if (went || kept[rank] != nobody) break;
        }
      }
    }
    for (std::size_t s = 0; s < streams.size() && fault_text_.empty(); ++s)
      if (done[s] < streams[s].size()) fault_text_ = "stuck";
    return fault_text_;
  }

 private:
  using Clock = std::vector<int>;
  using Key = std::tuple<int, int, int, int>;
  struct Step {
    Item item;
    int call, rank;
  };
  struct Place {
    Clock written;
    std::tuple<int, bool, int, int> holds{-1, false, 0, 0};  ///< call, is a total, piece, of which rank or chunk
    std::vector<Clock> reads;
  };

  std::vector<std::vector<Step>> enqueue(const std::vector<int>& pieces_by_call) const {
    std::vector<std::vector<Step>> streams(at(2 * ranks_));
    for (std::size_t call = 0; call < pieces_by_call.size(); ++call)
      for (int rank = 0; rank < ranks_; ++rank)
        for (const Item& item : faulty(work_of(ranks_, pieces_by_call[call])))
          streams[at(2 * rank + (item.copying && !one_stream_))].push_back({item, static_cast<int>(call), rank});
    return streams;
  }

  /// A follow comes before copies of totals, or before a group is told of; a join before what is awaited by itself.
  std::vector<Item> faulty(std::vector<Item> items) const {
    if (fault_ == Fault::awaited_early)
      std::erase_if(items, [&, i = std::size_t{0}](const Item& item) mutable { return ++i, item.work == Work::join && i > 1 && i < items.size() && items[i].work == Work::await; });
    const bool early = fault_ == Fault::totals_early, told = fault_ == Fault::told_early;
    for (std::size_t i = items.size() - 1; i-- > 0 && (early || told);)
      if (items[i].work == Work::follow && items[i + 1].work == (early ? Work::copy : Work::meet)) items.erase(items.begin() + static_cast<std::ptrdiff_t>(i));
    return items;
  }

  static std::size_t at(int index) { return static_cast<std::size_t>(index); }
  static bool before(const Clock& a, const Clock& b) {
    for (std::size_t i = 0; i < a.size(); ++i)
      if (a[i] > b[i]) return false;
    return true;
  }
  static void merge(Clock& into, const Clock& from) {
    for (std::size_t i = 0; i < into.size(); ++i) into[i] = std::max(into[i], from[i]);
  }

  /// False if it must wait.
  bool take_step(const Step& step, int stream) {
    const auto& [item, call, rank] = step;
    Clock& now = clocks_[at(stream)];
    const auto peer = [&, r = rank](int round) { return (r + round) % ranks_; };
    const auto sender = [&, r = rank](int round) { return (r + ranks_ - round) % ranks_; };
    ++now[at(stream)];
    switch (item.work) {
      case Work::open:
        headers_.emplace(Key{call, rank, 0, 0}, now);
        for (int other = 0; other < ranks_ && fault_ != Fault::headers; ++other) {
          if (headers_.count({call, other, 0, 0}) == 0) return false;
          merge(now, headers_[{call, other, 0, 0}]);
        }
        point(call, rank, 0, now);
        return true;
      case Work::fork: return pass(points_, {call, rank, 0, 0}, now);
      case Work::join:
        // The point that the copying stream has come to when the caller's is told to wait for it: a meeting, or the last group's tellings.
        return fault_ == Fault::joins || pass(meetings_, {call, rank, joins_[{call, rank, 0, 0}], 0}, now, [&] { ++joins_[{call, rank, 0, 0}]; });
      case Work::copy: {
        const int to = peer(item.round), chunk = item.what.gathers ? rank : to;
        read(buffer(rank, chunk, item.what.piece), now, {call, item.what.gathers, item.what.piece, chunk}, item.what.gathers);
        write(slot(to, item.group, rank), now, {call, item.what.gathers, item.what.piece, rank});
        return true;
      }
      case Work::sum:
        for (int from = 0; from < ranks_; ++from)
          if (from != rank) read(slot(rank, item.group, from), now, {call, false, item.what.piece, from}, true);
        write(buffer(rank, rank, item.what.piece), now, {call, true, item.what.piece, rank});
        return true;
      case Work::take: {
        const int from = sender(item.round);
        read(slot(rank, item.group, from), now, {call, true, item.what.piece, from}, true);
        write(buffer(rank, from, item.what.piece), now, {call, true, item.what.piece, from});
        return true;
      }
      case Work::meet:
        for (int other = 0; other < ranks_; ++other) tell(call, rank, other, item.group, now);
        for (int other = 0; other < ranks_; ++other)
          if (!hear(call, other, rank, item.group, now)) return false;
        meetings_[{call, rank, item.group, 0}] = now;
        return true;
      case Work::tell:
        tell(call, rank, peer(item.round), item.group, now);
        meetings_[{call, rank, item.group + item.round - 1, 0}] = now;
        return true;
      case Work::await: return hear(call, sender(item.round), rank, item.group, now);
      case Work::consumed: point(call, rank, item.group + 1, now); return true;
      case Work::follow: return pass(points_, {call, rank, item.group + 1, 0}, now);
    }
    return false;
  }

  void point(int call, int rank, int index, const Clock& now) { points_[{call, rank, index, 0}] = now; }
  bool pass(std::map<Key, Clock>& points, const Key& key, Clock& now, const std::function<void()>& then = [] {}) {
    const auto found = points.find(key);
    if (found == points.end()) return false;
    merge(now, found->second);
    then();
    return true;
  }
  void tell(int call, int from, int to, int group, const Clock& now) { told_.emplace(std::tuple(call, from, to, group), now); }
  bool hear(int call, int from, int to, int group, Clock& now) {
    if (from == to || fault_ == Fault::arrivals) return true;
    const auto found = told_.find({call, from, to, group});
    if (found == told_.end()) return false;
    merge(now, found->second);
    return true;
  }

  Place& slot(int rank, int group, int from) { return places_[{rank, -1 - group % (fault_ == Fault::third_buffer ? 2 : 3), from, 0}]; }
  /// In place, the stricter case: an input is overwritten by its total.
  Place& buffer(int rank, int chunk, int piece) { return places_[{rank, chunk, piece, 1}]; }

  void read(Place& place, const Clock& now, std::tuple<int, bool, int, int> wanted, bool written) {
    if (!before(place.written, now)) fault_text_ = "a read beside a write";
    if (written && place.holds != wanted) fault_text_ = "a read of something else";
    if (!written && std::get<0>(place.holds) == std::get<0>(wanted)) fault_text_ = "an input overwritten before it was read";
    place.reads.push_back(now);
  }
  void write(Place& place, const Clock& now, std::tuple<int, bool, int, int> value) {
    if (!before(place.written, now)) fault_text_ = "a write beside a write";
    for (const Clock& reader : place.reads)
      if (!before(reader, now)) fault_text_ = "a write beside a read";
    place = {now, value, {}};
  }

  int ranks_;
  bool one_stream_;
  Fault fault_;
  std::vector<Clock> clocks_;
  std::map<Key, Clock> headers_, points_, meetings_;
  std::map<Key, int> joins_;
  std::map<std::tuple<int, int, int, int>, Clock> told_;
  std::map<Key, Place> places_;
  std::string fault_text_;
};

}  // namespace

TEST_CASE("groups of copies scatter and gather every piece once, totals after operands", "[exec][copies]") {
  for (int pieces = 1; pieces <= 300; ++pieces) {
    std::vector<int> scattered(static_cast<std::size_t>(pieces), -1), gathered = scattered;
    for (int g = 0; g < copy_groups(pieces); ++g) {
      const CopyGroup group = copy_group(g, pieces);
      auto& seen = (group.gathers ? gathered : scattered).at(static_cast<std::size_t>(group.piece));
      REQUIRE(seen == -1);
      seen = g;
    }
    for (int piece = 0; piece < pieces; ++piece) {
      const auto p = static_cast<std::size_t>(piece);
      REQUIRE(scattered[p] == scattering_group(piece));
      REQUIRE((gathered[p] > scattered[p] && gathered[p] <= scattered[p] + 3));
      if (piece + 1 < pieces) REQUIRE(gathered[p] > scattered[p + 1]);  // something is copied while it is summed
    }
  }
}

TEST_CASE("no slot or buffer of copies is read early or overwritten late, on any number of ranks", "[exec][copies]") {
  const bool one_stream = GENERATE(false, true);
  for (int ranks = 2; ranks <= 16; ++ranks)
    for (const auto& calls : std::vector<std::vector<int>>{{1, 1, 1}, {2, 1, 3}, {3, 3}, {4, 2, 5}, {7, 1}, {12}}) {
      if (ranks > 8 && calls.size() > 2) continue;
      CAPTURE(ranks, one_stream, calls);
      REQUIRE(OrderCheck(ranks, one_stream).run(calls) == "");
    }
}

TEST_CASE("copies come to an end whatever shares a queue with what, one thing at a time", "[exec][copies]") {
  bool control_was_stuck = false;
  for (const int ranks : {2, 3, 4, 8})
    for (std::uint32_t seed = 0; seed < 100; ++seed) {
      CAPTURE(ranks, seed);
      REQUIRE(OrderCheck(ranks, false).run_one_at_a_time({3, 1, 4}, seed) == "");
      control_was_stuck = control_was_stuck || OrderCheck(ranks, false, Fault::awaited_early).run_one_at_a_time({3}, seed) == "stuck";
    }
  CHECK(control_was_stuck);
}

TEST_CASE("whatever orders copies is missed when it is left out", "[exec][copies]") {
  for (const auto fault : {Fault::headers, Fault::arrivals, Fault::totals_early, Fault::told_early, Fault::joins, Fault::third_buffer}) {
    CAPTURE(static_cast<int>(fault));
    CHECK(OrderCheck(4, false, fault).run({5, 5}) != "");
  }
}

namespace {

struct Alone {
  static constexpr int thread() { return 0; }
  static constexpr int threads() { return 1; }
  static constexpr void sync() {}
};
struct Yield {
  void operator()() const { std::this_thread::yield(); }
};

template <typename T>
void sum_on_host(const kernels::CopySumArgs& args) {
  kernels::CopySum<T, kernels::AnyOp, Alone>(args, kernels::AnyOp{args.op}, Alone{}).run();
}

void sum_on_host(const kernels::CopySumArgs& args, DataType type) {
  switch (type) {
    case DataType::float32: return sum_on_host<float>(args);
    case DataType::bfloat16: return sum_on_host<kernels::BFloat16>(args);
    case DataType::float64: return sum_on_host<double>(args);
    case DataType::int8: return sum_on_host<std::int8_t>(args);
    case DataType::float8_e4m3: return sum_on_host<kernels::Float8E4M3>(args);
    default: ensure(false, "a type that this test does not run");
  }
}

/// A point in a stream that another stream waits for.
struct Point {
  std::atomic<bool> reached{false};
};

/// One rank's call as two threads run it, one a stream.
class ThreadStreams {
 public:
  ThreadStreams(const kernels::CopyCallArgs& args, const CopyCall& call, DataType type) : args_(args), call_(call), type_(type) {
    walk_copies(call.ranks(), call.pieces(), *this);
  }

  std::function<void()> stream(bool copying) const {
    return [&work = copying ? copying_ : caller_] {
      for (const auto& item : work) item();
    };
  }

  void open() {
    caller_.push_back([this] { sync().open(); });
  }
  void fork() { order(caller_, copying_); }
  void join() { order(copying_, caller_); }
  void copy(int g, CopyGroup group, int round) { move(call_.copy(g, group, round), copying_); }
  void take(int g, CopyGroup group, int round) { move(call_.take(g, group, round), caller_); }
  void sum(int g, CopyGroup group) {
    caller_.push_back([this, args = call_.sum(g, group)] {
      if (!dead()) sum_on_host(args, type_);
    });
  }
  void meet(int g) { meet({~0u, ~0u, static_cast<std::uint32_t>(g)}, copying_); }
  void tell(int g, int round) { meet({1u << call_.peer(round), 0, static_cast<std::uint32_t>(g)}, copying_); }
  void await(int g, int round) { meet({0, 1u << call_.sender(round), static_cast<std::uint32_t>(g)}, caller_); }
  void consumed(int g) { consumed_[g] = record(caller_); }
  void follow(int g) { wait(copying_, consumed_.at(g)); }

 private:
  using Stream = std::vector<std::function<void()>>;

  kernels::CopySync<Alone, Yield> sync() const { return {args_, Alone{}, Yield{}}; }
  void meet(const kernels::CopyMeeting& meeting, Stream& stream) {
    stream.push_back([this, meeting] { sync().meet(meeting); });
  }
  static std::shared_ptr<Point> record(Stream& stream) {
    auto point = std::make_shared<Point>();
    stream.push_back([point] { point->reached.store(true, std::memory_order_release); });
    return point;
  }
  static void wait(Stream& stream, std::shared_ptr<Point> point) {
    stream.push_back([point] {
      while (!point->reached.load(std::memory_order_acquire)) std::this_thread::yield();
    });
  }
  static void order(Stream& first, Stream& then) { wait(then, record(first)); }
  void move(const CopySpan& span, Stream& stream) {
    stream.push_back([this, span] {
      if (span.bytes > 0 && !dead()) std::memcpy(span.to, span.from, span.bytes);
    });
  }
  /// An engine goes on copying what nobody will use. A thread that races for it would be reported.
  bool dead() const { return observe_relaxed(&reinterpret_cast<kernels::Control*>(args_.pools[args_.rank])->claimed) != 0; }

  kernels::CopyCallArgs args_;
  const CopyCall& call_;
  DataType type_;
  Stream caller_, copying_;
  std::map<int, std::shared_ptr<Point>> consumed_;
};

constexpr kernels::Layout copy_layout(std::size_t bytes) { return {.sentinel_bytes = 4096, .flagged_bytes = 256 << 10, .copy_bytes = bytes}; }

/// Ranks whose pools are host memory and whose engines are threads.
class CopyTeam {
 public:
  explicit CopyTeam(int ranks, Epoch first = 0xfffffff8u) : ranks_(ranks), layout_(copy_layout(std::size_t{3} * static_cast<std::size_t>(ranks) * 1024)) {
    for (int rank = 0; rank < ranks; ++rank) pools_.push_back(make_rank_pool(PoolKind::host, -1, std::size_t{1} << 24, layout_, first));
    records_.resize(static_cast<std::size_t>(ranks));
  }

  /// One call of those ranks whose bit `callers` has.
  void run(const std::vector<Call>& calls, const Plan& plan, const std::vector<Program>& programs, std::uint32_t callers = ~0u) {
    std::vector<std::unique_ptr<RankContext>> contexts;
    std::vector<std::unique_ptr<CopyCall>> copies;
    std::vector<std::unique_ptr<ThreadStreams>> streams;
    std::vector<std::thread> threads;
    for (int rank = 0; rank < ranks_; ++rank) {
      if ((callers >> rank & 1u) == 0) continue;
      const auto r = static_cast<std::size_t>(rank);
      RankContext& context = *contexts.emplace_back(std::make_unique<RankContext>(RankContext{.rank = rank, .ranks = ranks_, .layout = layout_}));
      kernels::CopyCallArgs args{};
      for (std::size_t peer = 0; peer < pools_.size(); ++peer) args.pools[peer] = context.pools[peer] = pools_[peer].pool->base();
      args.own = pools_[r].pool->base();
      args.rank = static_cast<std::uint8_t>(rank);
      args.ranks = static_cast<std::uint8_t>(ranks_);
      args.fingerprint = static_cast<std::uint32_t>(calls[r].count * 31 + static_cast<std::size_t>(calls[r].op));
      args.timeout_ns = timeout_ns;
      args.fault = &records_[r];
      args.layout = layout_;
      const CopyCall& call = *copies.emplace_back(std::make_unique<CopyCall>(context, calls[r], plan, programs[r]));
      streams.push_back(std::make_unique<ThreadStreams>(args, call, calls[r].type));
    }
    for (const auto& rank : streams)
      for (const bool copying : {false, true}) threads.emplace_back(rank->stream(copying));
    for (std::thread& thread : threads) thread.join();
  }

  kernels::FaultKind fault(int rank) const { return static_cast<kernels::FaultKind>(records_[static_cast<std::size_t>(rank)].kind); }
  const kernels::FaultRecord& record(int rank) const { return records_[static_cast<std::size_t>(rank)]; }

  std::uint64_t timeout_ns = 60'000'000'000u;

 private:
  int ranks_;
  kernels::Layout layout_;
  std::vector<RankPool> pools_;
  std::vector<kernels::FaultRecord> records_;
};

/// Bytes that no sum of small numbers is made of: anything a type can hold.
std::vector<std::byte> any_bytes(std::size_t bytes, std::uint32_t seed) {
  std::vector<std::byte> data(bytes);
  for (std::size_t i = 0; i < bytes; ++i) data[i] = static_cast<std::byte>((static_cast<std::uint32_t>(i) * 2654435761u + seed * 40503u) >> 13);
  return data;
}

Plan copy_plan(std::size_t piece_bytes) {
  Plan plan;
  plan.choice = {Algorithm::copy_two_shot};
  plan.tile_bytes = piece_bytes;
  plan.copies = true;
  return plan;
}

Plan plain_plan(const std::vector<Program>& programs) {
  Plan plan;
  plan.choice = {Algorithm::two_shot};
  plan.tile_bytes = 512;
  plan.stages = std::max(2, programs[0].min_stages);
  return plan;
}

}  // namespace

TEST_CASE("copies give two_shot's bits, on threads in the place of streams", "[exec][copies]") {
  const int ranks = GENERATE(2, 3, 4, 7);
  const auto programs = lower(two_shot_all_reduce(ranks));
  CopyTeam team(ranks);
  Team plain(ranks, layout_of(256 << 10));
  std::uint32_t seed = 0;
  for (const auto type : {DataType::float32, DataType::bfloat16, DataType::float64, DataType::int8, DataType::float8_e4m3})
    for (const std::size_t bytes : {std::size_t{8}, std::size_t{1000}, std::size_t{4096}, std::size_t{20'008}})
      for (const std::size_t misaligned : {std::size_t{0}, size_of(type)}) {
        ++seed;
        const auto op = static_cast<ReduceOp>(seed % static_cast<std::uint32_t>(reduce_op_count));
        const bool in_place = seed % 3 == 0;
        const std::size_t count = bytes / size_of(type);
        CAPTURE(ranks, name_of(type), name_of(op), count, misaligned, in_place, seed);
        std::vector<std::vector<std::byte>> in, out, expected;
        std::vector<Call> calls, plain_calls;
        for (int rank = 0; rank < ranks; ++rank) {
          in.push_back(any_bytes(bytes + 16, seed * 16 + static_cast<std::uint32_t>(rank)));
          out.push_back(std::vector<std::byte>(bytes + 16, std::byte{0x5a}));
        }
        expected = out;
        for (std::size_t r = 0; r < in.size(); ++r) {
          calls.push_back({.in = in[r].data() + misaligned, .out = in_place ? in[r].data() + misaligned : out[r].data() + misaligned, .count = count, .type = type, .op = op});
          plain_calls.push_back({.in = in[r].data() + misaligned, .out = expected[r].data() + misaligned, .count = count, .type = type, .op = op});
        }
        plain.run(plain_calls, plain_plan(programs), programs);
        team.run(calls, copy_plan(seed % 2 == 0 ? 512 : 1024), programs);
        for (std::size_t r = 0; r < in.size(); ++r) {
          REQUIRE(team.fault(static_cast<int>(r)) == kernels::FaultKind::none);
          const auto& found = in_place ? in[r] : out[r];
          const auto inside = [&](const std::vector<std::byte>& data) { return std::vector<std::byte>(data.begin() + static_cast<std::ptrdiff_t>(misaligned), data.begin() + static_cast<std::ptrdiff_t>(misaligned + bytes)); };
          REQUIRE(inside(found) == inside(expected[r]));
          if (!in_place) REQUIRE(found == expected[r]);  // nothing around it was touched
        }
      }
}

TEST_CASE("copies of a rank that never calls, or calls otherwise, end with a record that says so", "[exec][copies]") {
  const auto programs = lower(two_shot_all_reduce(3));
  std::vector<std::vector<float>> data(3, std::vector<float>(2000, 1.0f));
  std::vector<Call> calls;
  for (auto& own : data) calls.push_back({.in = own.data(), .out = own.data(), .count = own.size()});
  SECTION("one never calls") {
    CopyTeam team(3);
    team.timeout_ns = 50'000'000;
    team.run(calls, copy_plan(1024), programs, 0b101);
    for (const int rank : {0, 2}) {
      CAPTURE(rank);
      // Whoever's deadline passes first tells the other.
      const bool late = team.fault(rank) == kernels::FaultKind::timeout, told = team.fault(rank) == kernels::FaultKind::poisoned;
      CHECK((late || told));
      CHECK(team.record(rank).culprit == 1);
    }
  }
  SECTION("one calls otherwise") {
    CopyTeam team(3);
    calls[1].op = ReduceOp::max;
    team.run(calls, copy_plan(1024), programs);
    for (const int rank : {0, 1, 2}) CHECK((team.fault(rank) == kernels::FaultKind::mismatch || team.fault(rank) == kernels::FaultKind::poisoned));
  }
}
