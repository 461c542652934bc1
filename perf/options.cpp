#include "perf/options.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <iostream>

namespace perf {
namespace {

using collectives::Error;
using collectives::ErrorCode;

[[noreturn]] void refuse(const std::string& message) { throw Error(ErrorCode::invalid_argument, message); }

/// The values of an enumeration whose name is `text`, or all of them.
template <typename Value>
std::vector<Value> parse_named(std::string_view text, int count, std::string_view what) {
  std::vector<Value> values;
  std::string names;
  for (int i = 0; i < count; ++i) {
    const auto value = static_cast<Value>(i);
    if (text == "all" || text == name_of(value)) values.push_back(value);
    names += fmt::format("{}, ", name_of(value));
  }
  if (values.empty()) refuse(fmt::format("unknown {} '{}': expected {}or all", what, text, names));
  return values;
}

/// What the parser fills before it is turned into Settings.
struct RawText {
  std::string min = "32M", max = "32M", step = "1M", type = "float", op = "sum", algorithm, wire;
  double timeout_s = 0;
  int graph = 0, blocking = 0, null_stream = 0, per_call = 0, unalign = 0;
};

void add_sweep_options(CLI::App& app, Settings& s, RawText& raw) {
  app.add_option("-b,--minbytes", raw.min, "smallest size, with K, M or G")->capture_default_str();
  app.add_option("-e,--maxbytes", raw.max, "largest size")->capture_default_str();
  app.add_option("-i,--stepbytes", raw.step, "added from size to size")->capture_default_str();
  app.add_option("-f,--stepfactor", s.step_factor, "multiplied from size to size, if above 1")->check(CLI::Range(1, 1024));
  app.add_option("-d,--datatype", raw.type, "element type by name, or all")->capture_default_str();
  app.add_option("-o,--op", raw.op, "sum, prod, min, max, avg or all")->capture_default_str();
  app.add_option("-r,--root", s.root, "root, where the collective has one");
  app.add_option("-u,--unalign", raw.unalign, "begin buffers this many elements past an aligned address")->check(CLI::Range(0, 15));
}

void add_timing_options(CLI::App& app, Settings& s, RawText& raw) {
  app.add_option("-n,--iters", s.repetitions, "timed batches a line")->check(CLI::Range(1, 100'000))->capture_default_str();
  app.add_option("-m,--agg_iters", s.calls_per_batch, "calls in a batch; 0: by size")->check(CLI::Range(0, 100'000));
  app.add_option("-w,--warmup_iters", s.warmups, "calls before the first batch")->check(CLI::Range(0, 100'000))->capture_default_str();
  app.add_option("-N,--run_cycles", s.run_cycles, "sweeps; 0: for ever")->check(CLI::Range(0, 1'000'000))->capture_default_str();
  app.add_option("-c,--check", s.checks, "checked calls a line and side; 0: none")->check(CLI::Range(0, 10'000))->capture_default_str();
  app.add_option("-G,--cudagraph", raw.graph, "replay batches as CUDA graphs, at least this often")->check(CLI::Range(0, 100'000));
  app.add_option("-z,--blocking", raw.blocking, "1: wait on the host after every call")->check(CLI::Range(0, 1));
  app.add_option("-y,--stream_null", raw.null_stream, "1: use the null stream")->check(CLI::Range(0, 1));
  app.add_option("-I,--per_iter_timing", raw.per_call, "1: time every call alone; adds max and cv%")->check(CLI::Range(0, 1));
  app.add_option("-T,--timeout", raw.timeout_s, "seconds after which a call counts as hung")->check(CLI::Range(0.0, 4'000'000.0));
  app.add_option("-J,--output_file", s.json_file, "write the results as JSON too; an existing file is kept");
}

void add_rank_options(CLI::App& app, Settings& s) {
  app.add_option("-t,--nthreads", s.threads, "threads of one process")->check(CLI::Range(1, collectives::max_ranks));
  app.add_option("-g,--ngpus", s.ranks_per_thread, "ranks that each thread drives")->check(CLI::Range(1, collectives::max_ranks));
  app.add_option("--procs", s.processes, "one process a rank, this many")->check(CLI::Range(2, collectives::max_ranks));
  app.add_option("--ranks", s.cpu_ranks, "this many CPU ranks")->check(CLI::Range(2, collectives::max_ranks));
  app.add_option("--virtual", s.virtual_ranks, "this many ranks on the GPUs there are, in turn")
      ->check(CLI::Range(2, collectives::max_ranks));
}

void add_library_options(CLI::App& app, Settings& s, RawText& raw) {
  app.add_option("--algorithm", raw.algorithm, "force an algorithm: one_shot, two_shot, ring, kary_tree:3, ...");
  app.add_option("--wire", raw.wire, "force a wire")->check(CLI::IsMember({"sentinel", "flagged"}));
  app.add_flag("--invariant", s.library.invariant, "direct algorithms only");
  app.add_option("--max-blocks", s.library.max_blocks, "most thread blocks of a call")->check(CLI::Range(0, 1024));
  app.add_option("--compare", s.compare, "measure these beside ours, in turns: nccl, nccl-symmetric")
      ->delimiter(',')
      ->check(CLI::IsMember({"nccl", "nccl-symmetric"}));
  app.add_option("--nccl-library", s.nccl_library, "what --compare opens")->capture_default_str();
  app.add_option("--nccl-max-ctas", s.nccl_max_ctas, "most thread blocks of NCCL's calls; 0: its choice")->check(CLI::Range(0, 1024));
}

void take_text(Settings& s, const RawText& raw) {
  s.min_bytes = parse_size(raw.min);
  s.max_bytes = parse_size(raw.max);
  s.step_bytes = parse_size(raw.step);
  s.types = parse_types(raw.type);
  s.ops = parse_ops(raw.op);
  s.graph_launches = raw.graph;
  s.blocking = raw.blocking != 0;
  s.null_stream = raw.null_stream != 0;
  s.per_call = raw.per_call != 0;
  s.unalign = static_cast<std::size_t>(raw.unalign);
  if (!raw.algorithm.empty()) s.library.algorithm = collectives::parse_algorithm(raw.algorithm);
  if (!raw.wire.empty()) s.library.wire = raw.wire == "sentinel" ? collectives::Wire::sentinel : collectives::Wire::flagged;
  if (raw.timeout_s > 0) s.library.timeout_ms = static_cast<std::uint32_t>(std::max(1.0, raw.timeout_s * 1000));
}

void check_together(const Settings& s) {
  if (s.min_bytes > s.max_bytes) refuse(fmt::format("-b {} is larger than -e {}", s.min_bytes, s.max_bytes));
  if (s.step_factor == 1 && s.step_bytes == 0 && s.min_bytes < s.max_bytes) refuse("-i 0 never reaches -e; give -i or -f");
  if (s.cpu_ranks && (s.virtual_ranks || s.processes)) refuse("--ranks is for threads of one process: not with --virtual or --procs");
  if (s.processes && (s.threads || s.ranks_per_thread)) refuse("--procs runs one rank a process: not with -t or -g");
  if (s.processes && s.virtual_ranks && *s.processes != *s.virtual_ranks)
    refuse("--procs and --virtual must name the same number of ranks");
  if (s.graph_launches > 0 && (s.blocking || s.null_stream || s.per_call)) refuse("-G cannot be combined with -z, -y or -I");
  if (s.null_stream && s.virtual_ranks)
    refuse("-y puts all ranks of a GPU on one stream, where they wait for each other for ever: not with --virtual");
}

}  // namespace

std::optional<Settings> parse_settings(int argc, const char* const* argv, const std::string& program) {
  Settings settings;
  RawText raw;
  CLI::App app("Measures and checks a collective; options as in nccl-tests", program);
  add_sweep_options(app, settings, raw);
  add_timing_options(app, settings, raw);
  add_rank_options(app, settings);
  add_library_options(app, settings, raw);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    std::cout << app.help();
    return std::nullopt;
  } catch (const CLI::ParseError& error) {
    refuse(error.what());
  }
  take_text(settings, raw);
  check_together(settings);
  return settings;
}

std::size_t parse_size(std::string_view text) {
  double number = 0;
  const char* end = text.data() + text.size();
  const auto [rest, failure] = std::from_chars(text.data(), end, number);
  const std::string_view unit(rest, static_cast<std::size_t>(end - rest));
  double scale = 0;
  if (unit.empty()) scale = 1;
  if (unit == "K" || unit == "k") scale = 1 << 10;
  if (unit == "M" || unit == "m") scale = 1 << 20;
  if (unit == "G" || unit == "g") scale = 1 << 30;
  const double bytes = number * scale;
  if (failure != std::errc{} || scale == 0 || !(number >= 0) || bytes > 0x1p50 || bytes != std::floor(bytes))
    refuse(fmt::format("'{}' is no size: expected whole bytes such as 4096, 64K, 1.5M or 2G", text));
  return static_cast<std::size_t>(bytes);
}

std::vector<DataType> parse_types(std::string_view text) { return parse_named<DataType>(text, collectives::data_type_count, "datatype"); }

std::vector<ReduceOp> parse_ops(std::string_view text) { return parse_named<ReduceOp>(text, collectives::reduce_op_count, "op"); }

std::vector<std::size_t> element_counts(const Settings& settings, DataType type) {
  std::vector<std::size_t> counts;
  const bool multiply = settings.step_factor > 1;
  for (std::size_t bytes = settings.min_bytes; bytes <= settings.max_bytes;) {
    const std::size_t count = std::max<std::size_t>(1, bytes / collectives::size_of(type));
    if (counts.empty() || counts.back() != count) counts.push_back(count);
    // Zero would be multiplied for ever.
    bytes = multiply ? std::max<std::size_t>(bytes, 1) * static_cast<std::size_t>(settings.step_factor) : bytes + settings.step_bytes;
    if (!multiply && settings.step_bytes == 0) break;
  }
  return counts;
}

int calls_per_batch(const Settings& settings, std::size_t bytes, bool on_gpu) {
  if (settings.per_call) return 1;
  if (settings.calls_per_batch > 0) return settings.calls_per_batch;
  if (on_gpu) return bytes <= (1u << 20) ? 100 : 20;
  return bytes <= (64u << 10) ? 20 : bytes <= (1u << 20) ? 5 : 1;
}

int repetitions(const Settings& settings) {
  return settings.graph_launches > 0 ? std::max(10, settings.graph_launches) : settings.repetitions;
}

}  // namespace perf
