// The time below which no all-reduce of this shape comes on these GPUs: its stores and polls, and nothing else.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <bit>
#include <collectives/error.hpp>
#include <cstdio>
#include <limits>

#include "perf/floor.hpp"
#include "perf/options.hpp"
#include "perf/place.hpp"
#include "perf/statistics.hpp"

namespace {

using namespace perf;

constexpr double deadline_s = 20;
constexpr std::size_t pack_bytes = 16;
constexpr std::size_t arrival_bytes = std::size_t{48} << 20;  // of a rank: what its cache holds

struct Grid {
  int blocks, threads;
};

/// One rank: its GPU and where packs arrive there.
struct Rank {
  std::unique_ptr<Place> place;
  std::byte* arrivals = nullptr;
  std::byte *in = nullptr, *out = nullptr;  // if there are buffers
  std::uint32_t* gave_up = nullptr;
};

class Team {
 public:
  /// With `buffers` of so many bytes, or none.
  Team(int ranks, std::size_t buffers) : lane_packs_(std::bit_floor(arrival_bytes / pack_bytes / 2 / static_cast<std::size_t>(ranks - 1))) {
    for (int rank = 0; rank < ranks; ++rank) {
      for (int peer = 0; peer < ranks; ++peer)
        if (peer != rank) reach_peer(rank, peer);
      Rank made{.place = make_cuda_place(rank, false)};
      made.place->make_current();
      const std::size_t bytes = 2 * lane_packs_ * pack_bytes * static_cast<std::size_t>(ranks - 1);
      made.arrivals = made.place->allocate(bytes);
      made.gave_up = reinterpret_cast<std::uint32_t*>(made.place->allocate(256));
      made.place->set(made.arrivals, 0, bytes);
      if (buffers != 0) {
        made.in = made.place->allocate(buffers);
        made.out = made.place->allocate(buffers);
        made.place->set(made.in, 0x5a, buffers);
      }
      made.place->set(made.gave_up, 0, 256);
      ranks_.push_back(std::move(made));
    }
  }
  ~Team() {
    for (Rank& rank : ranks_) {
      rank.place->make_current();
      rank.place->release(rank.arrivals);
      if (rank.in != nullptr) {
        rank.place->release(rank.in);
        rank.place->release(rank.out);
      }
      rank.place->release(reinterpret_cast<std::byte*>(rank.gave_up));
    }
  }
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  /// Microseconds a call: the slowest rank, the median of `repetitions` replayed graphs.
  double measure(std::size_t bytes, bool two_shot, Grid grid, int repetitions) {
    // A graph keeps its tags: an even number of calls, so that the first of a replay has another half than the last.
    const int calls = calls_per_batch({}, bytes, true) / 2 * 2;
    std::vector<int> graphs;
    for (int r = 0; r < size(); ++r) {
      Place& place = *ranks_[static_cast<std::size_t>(r)].place;
      place.make_current();
      place.begin_capture();
      for (int call = 0; call < calls; ++call) launch_floor(args(r, bytes, two_shot, call), grid.blocks, grid.threads, place.stream());
      graphs.push_back(place.end_capture());
    }
    std::vector<double> times;
    for (int repetition = 0; repetition <= repetitions; ++repetition) {
      const double us = replay(graphs) / calls;
      if (repetition > 0) times.push_back(us);
    }
    for (Rank& rank : ranks_) {
      rank.place->make_current();
      rank.place->forget_graphs();
      if (rank.place->altered(rank.gave_up, 256, 0) != 0) throw collectives::Error(collectives::ErrorCode::timeout, "a pack did not come");
    }
    return summarize(times).median;
  }

  int size() const { return static_cast<int>(ranks_.size()); }

 private:
  FloorArgs args(int rank, std::size_t bytes, bool two_shot, int call) const {
    const int ranks = size();
    const auto n = static_cast<std::size_t>(ranks);
    const std::size_t share = two_shot ? (bytes + n - 1) / n : bytes, places = lane_packs_ / (two_shot ? 2 : 1);
    FloorArgs result;
    result.peers = ranks - 1;
    result.packs = std::max<std::size_t>((share + pack_bytes - 1) / pack_bytes, 1);
    result.ring_packs = std::min(std::bit_ceil(result.packs), places);
    result.two_phases = two_shot;
    result.in = ranks_[static_cast<std::size_t>(rank)].in;
    result.out = ranks_[static_cast<std::size_t>(rank)].out;
    result.tag = static_cast<std::uint32_t>(call) + 1;
    result.max_polls = 4'000'000;
    result.gave_up = ranks_[static_cast<std::size_t>(rank)].gave_up;
    for (int k = 1; k < ranks; ++k) {
      const int peer = (rank + k) % ranks;
      result.theirs[k - 1] = lane(peer, ranks - k, call);
      result.mine[k - 1] = lane(rank, k, call);
    }
    return result;
  }
  /// Where what comes from the k-th peer behind it arrives at a rank.
  std::byte* lane(int rank, int k, int call) const {
    const auto half = static_cast<std::size_t>(call % 2), lanes = static_cast<std::size_t>(size() - 1);
    return ranks_[static_cast<std::size_t>(rank)].arrivals + (half * lanes + static_cast<std::size_t>(k - 1)) * lane_packs_ * pack_bytes;
  }

  double replay(const std::vector<int>& graphs) {
    // Behind two calls that nobody leaves before all have come: clocks start together.
    constexpr int meeting = 1'000'000;
    for (std::size_t r = 0; r < ranks_.size(); ++r) {
      Place& place = *ranks_[r].place;
      place.make_current();
      for (const int call : {meeting, meeting + 1}) launch_floor(args(static_cast<int>(r), pack_bytes, false, call), 1, 32, place.stream());
      place.start();
      place.replay(graphs[r]);
      place.stop();
    }
    double slowest_us = 0;
    for (Rank& rank : ranks_) {
      rank.place->make_current();
      rank.place->wait(deadline_s);
      slowest_us = std::max(slowest_us, rank.place->elapsed_us());
    }
    return slowest_us;
  }

  std::size_t lane_packs_;
  std::vector<Rank> ranks_;
};

/// The fastest of a few grids, none of more threads than there are packs.
std::pair<double, Grid> floor_of(Team& team, std::size_t bytes, bool two_shot, int repetitions) {
  const std::size_t share = two_shot ? bytes / static_cast<std::size_t>(team.size()) : bytes;
  std::pair<double, Grid> best{std::numeric_limits<double>::infinity(), {}};
  for (const int blocks : {1, 4, 16, 32, 64, 128})
    for (const int threads : {64, 128, 256, 512, 1024}) {
      const std::size_t covered = static_cast<std::size_t>(blocks * threads) * pack_bytes;
      const bool smallest = blocks == 1 && threads == 64, too_few = 16 * covered < std::min(share, std::size_t{32} << 20);
      if (!smallest && (covered > 2 * share || too_few)) continue;
      const double us = team.measure(bytes, two_shot, {blocks, threads}, repetitions);
      if (us < best.first) best = {us, {blocks, threads}};
    }
  return best;
}

}  // namespace

int main(int argc, char** argv) {
  int ranks = 0, repetitions = 5;
  std::string smallest = "1K", largest = "256M";
  std::size_t factor = 2;
  bool with_buffers = false;
  CLI::App app("Measures the stores and polls that an all-reduce cannot do without", "floor_perf");
  app.add_option("-g,--ngpus", ranks, "GPUs (default: all)")->check(CLI::Range(2, max_floor_ranks));
  app.add_option("-b,--minbytes", smallest, "smallest size, with K, M or G")->capture_default_str();
  app.add_option("-e,--maxbytes", largest, "largest size")->capture_default_str();
  app.add_option("-f,--stepfactor", factor, "multiplied from size to size")->check(CLI::Range(2, 1024))->capture_default_str();
  app.add_option("-n,--iters", repetitions, "replayed graphs; their median counts")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_flag("--buffers", with_buffers, "packs are loaded from memory and what has come is stored there");
  CLI11_PARSE(app, argc, argv);
  try {
    const Survey survey = survey_gpus();
    if (ranks == 0) ranks = std::min(survey.gpus, max_floor_ranks);
    if (survey.gpus < 2 || ranks > survey.gpus) {
      fmt::print("{} GPUs where {} are wanted: there is nothing to measure\n", survey.gpus, std::max(ranks, 2));
      return 0;
    }
    const std::size_t last = parse_size(largest);
    // A chunk more, for those that the last pack of each chunk makes longer.
    Team team(ranks, with_buffers ? last + (std::size_t{1} << 10) : 0);
    fmt::print("{} GPUs, {} us a call\n{:>12} {:>10} {:>10} {:>10} {:>10}\n", ranks, with_buffers ? "with buffers," : "without buffers,", "bytes", "one_shot", "grid", "two_shot", "grid");
    for (std::size_t bytes = parse_size(smallest); bytes <= last; bytes *= factor) {
      const auto [one, one_grid] = floor_of(team, bytes, false, repetitions);
      const auto [two, two_grid] = floor_of(team, bytes, true, repetitions);
      fmt::print("{:>12} {:>10.2f} {:>10} {:>10.2f} {:>10}\n", bytes, one, fmt::format("{}x{}", one_grid.blocks, one_grid.threads), two,
                 fmt::format("{}x{}", two_grid.blocks, two_grid.threads));
      std::fflush(stdout);
    }
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 3;
  }
  return 0;
}
