// What pinned host memory gives GPUs that all use it at once, and the time below which no two-shot through it comes.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <collectives/error.hpp>
#include <cstdio>
#include <limits>

#include "perf/host_team.hpp"
#include "perf/options.hpp"

namespace {

using namespace perf;

constexpr std::size_t mebi = std::size_t{1} << 20;

const char* name_of(Mover mover) { return mover == Mover::none ? "-" : mover == Mover::engines ? "engines" : "blocks"; }

/// Of what a two-shot moves in each direction, by the fastest of a few grids.
HostRates rates_of(HostTeam& team, Mover out, Mover in, std::size_t ring_bytes) {
  const auto ranks = static_cast<std::size_t>(team.size());
  HostRates best;
  for (const int blocks : {8, 16, 32}) {
    HostStreams streams{.out = out, .in = in, .out_bytes = 192 * mebi, .in_bytes = 0, .ring_bytes = ring_bytes, .blocks = blocks, .piece_bytes = std::min(ring_bytes, 2 * mebi)};
    streams.in_bytes = streams.out_bytes * 2 * (ranks - 1) / ranks / (2 * mebi) * (2 * mebi);
    const HostRates rates = team.stream(streams);
    const double time = std::max(rates.out_gb_per_s > 0 ? 1 / rates.out_gb_per_s : 0, rates.in_gb_per_s > 0 ? 1.5 / rates.in_gb_per_s : 0);
    const double least = std::max(best.out_gb_per_s > 0 ? 1 / best.out_gb_per_s : 0, best.in_gb_per_s > 0 ? 1.5 / best.in_gb_per_s : 0);
    if (least == 0 || time < least) best = rates;
    if (out != Mover::multiprocessors && in != Mover::multiprocessors) break;
  }
  return best;
}

void print_rates(HostTeam& team) {
  fmt::print("{} GPUs, GB/s of each, all at once; out: to host memory, in: from it\n{:>10} {:>10} {:>8} {:>8} {:>8}\n", team.size(), "out by", "in by", "MB each", "out", "in");
  constexpr auto none = Mover::none, blocks = Mover::multiprocessors, engines = Mover::engines;
  for (const std::size_t ring : {4 * mebi, 8 * mebi, 16 * mebi, 64 * mebi})
    for (const auto& [out, in] : {std::pair(blocks, none), {none, blocks}, {blocks, blocks}, {engines, none}, {none, engines}, {engines, engines}, {engines, blocks}, {blocks, engines}}) {
      const HostRates rates = rates_of(team, out, in, ring);
      fmt::print("{:>10} {:>10} {:>8} {:>8.1f} {:>8.1f}\n", name_of(out), name_of(in), ring / mebi, rates.out_gb_per_s, rates.in_gb_per_s);
      std::fflush(stdout);
    }
}

template <typename Grid>
struct Fastest {
  double us = std::numeric_limits<double>::infinity();
  Grid grid{};
  void take(double other, const Grid& by) {
    if (other < us) us = other, grid = by;
  }
};

Fastest<CrewGrid> fastest_crews(HostTeam& team, std::size_t bytes) {
  Fastest<CrewGrid> fastest;
  for (const int blocks : {8, 16, 32})
    for (const std::uint32_t tile : {512u, 1024u, 2048u})
      for (const std::uint32_t stages : {2u, 4u}) {
        const CrewGrid grid{blocks, tile, stages};
        fastest.take(team.by_crews(bytes, grid), grid);
      }
  return fastest;
}

Fastest<PieceGrid> fastest_engines(HostTeam& team, std::size_t bytes) {
  Fastest<PieceGrid> fastest;
  for (const int pieces : {1, 2, 4, 8, 16, 32}) {
    const std::size_t piece = bytes / static_cast<std::size_t>(team.size() * pieces);
    // All slots of a rank are within its memory, and a copy is worth beginning.
    if ((pieces > 1 && piece < 256 * 1024) || piece > std::min(4 * mebi, 28 * mebi / static_cast<std::size_t>(team.size() + 1))) continue;
    for (const int lag : {1, 2}) {
      const PieceGrid grid{pieces, lag, 2};
      fastest.take(team.by_engines(bytes, grid), grid);
    }
  }
  return fastest;
}

}  // namespace

int main(int argc, char** argv) {
  int ranks = 0, repetitions = 5;
  std::string smallest = "1M", largest = "64M";
  std::size_t factor = 4;
  CLI::App app("Measures what GPUs that use pinned host memory at once get of it, and the stores, loads and polls that a two-shot through it cannot do without", "host_floor_perf");
  app.add_option("-g,--ngpus", ranks, "GPUs (default: all)")->check(CLI::Range(2, max_host_floor_ranks));
  app.add_option("-b,--minbytes", smallest, "smallest size, with K, M or G")->capture_default_str();
  app.add_option("-e,--maxbytes", largest, "largest size, up to 64M")->capture_default_str();
  app.add_option("-f,--stepfactor", factor, "multiplied from size to size")->check(CLI::Range(2, 1024))->capture_default_str();
  app.add_option("-n,--iters", repetitions, "repetitions; their median counts")->check(CLI::Range(1, 1000))->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    const Survey survey = survey_gpus();
    if (ranks == 0) ranks = std::min(survey.gpus, max_host_floor_ranks);
    if (survey.gpus < 2 || ranks > survey.gpus) {
      fmt::print("{} GPUs where {} are wanted: there is nothing to measure\n", survey.gpus, std::max(ranks, 2));
      return 0;
    }
    HostTeam team(ranks, repetitions);
    print_rates(team);
    fmt::print("\nA stripped two-shot, us\n{:>12} {:>10} {:>24} {:>10} {:>16}\n", "bytes", "by crews", "blocks x packs x stages", "by engines", "pieces, lag");
    const std::size_t last = std::min(parse_size(largest), 64 * mebi);
    for (std::size_t bytes = parse_size(smallest); bytes <= last; bytes *= factor) {
      const auto crews = fastest_crews(team, bytes);
      const auto engines = fastest_engines(team, bytes);
      fmt::print("{:>12} {:>10.1f} {:>24} {:>10.1f} {:>16}\n", bytes, crews.us, fmt::format("{} x {} x {}", crews.grid.blocks, crews.grid.tile_packs, crews.grid.stages), engines.us,
                 fmt::format("{}, {}", engines.grid.pieces, engines.grid.lag));
      std::fflush(stdout);
    }
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 3;
  }
  return 0;
}
