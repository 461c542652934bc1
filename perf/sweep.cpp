// What every perf binary does: the sweep over types, operations and sizes, run by all workers in step and printed by the first.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "perf/extent.hpp"
#include "perf/json_report.hpp"
#include "perf/table.hpp"

namespace perf {
namespace {

/// What all workers of a run share.
struct Run {
  const Collective& collective;
  const Settings& settings;
  const Layout& layout;
  std::vector<std::string> args;
  TableStyle style;
  bool ignored_graphs = false;  ///< -G on CPU ranks
};

std::string host_name() {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  return name.data();
}

std::vector<std::string> labels_of(const Worker& worker) {
  std::vector<std::string> labels;
  for (int local = 0; local < worker.local_ranks(); ++local)
    labels.push_back(fmt::format("Rank {:2} Group  0 Pid {:6} on {:>10} {}", worker.first_rank + local, getpid(), host_name(),
                                 worker.places[static_cast<std::size_t>(local)]->describe()));
  return labels;
}

void print_header(const Run& run, const std::vector<std::string>& labels, const std::string& nccl_version) {
  const Settings& s = run.settings;
  fmt::print("# Collective test starting: {}\n", run.collective.name);
  fmt::print(
      "# nThread {} nGpus {} nProcs {} minBytes {} maxBytes {} step: {}{} warmup iters: {} iters: {} agg iters: {} validation: {} graph: "
      "{}\n",
      run.layout.threads, run.layout.ranks_per_worker(), run.layout.processes, s.min_bytes, s.max_bytes,
      s.step_factor > 1 ? s.step_factor : static_cast<long long>(s.step_bytes), s.step_factor > 1 ? "(factor)" : "(bytes)", s.warmups,
      repetitions(s), s.calls_per_batch, s.checks, s.graph_launches);
  if (!run.layout.note.empty()) fmt::print("# {}\n", run.layout.note);
  if (run.ignored_graphs) fmt::print("# CPU ranks have no graphs: -G is not used\n");
  if (!nccl_version.empty()) fmt::print("# Compared with NCCL {}, without multicast\n", nccl_version);
  fmt::print("#\n# Using devices\n");
  for (const std::string& label : labels) fmt::print("#  {}\n", label);
  fmt::print("#\n{}", heading(run.style));
  std::fflush(stdout);
}

/// A rank's block of so many elements in all: whole packs, so that every block is aligned, if it has any.
std::size_t block_of(std::size_t elements, int blocks, DataType type) {
  if (blocks == 1) return elements;
  const std::size_t block = std::max<std::size_t>(elements / static_cast<std::size_t>(blocks), 1), pack = 16 / collectives::size_of(type);
  return block < pack ? block : block / pack * pack;
}

std::vector<Shape> shapes_of(const Run& run) {
  std::vector<Shape> shapes;
  const int blocks = blocks_of(run.collective.kind, run.layout.ranks());
  const std::vector<ReduceOp> ops = collectives::reduces(run.collective.kind) ? run.settings.ops : std::vector<ReduceOp>{ReduceOp::sum};
  for (const DataType type : run.settings.types)
    for (const ReduceOp op : ops)
      for (const std::size_t elements : element_counts(run.settings, type)) {
        const Shape shape{.type = type, .op = op, .count = block_of(elements, blocks, type), .in_place = false, .blocks = blocks};
        // Sizes below a block a rank are all the same.
        if (shapes.empty() || shapes.back().count != shape.count || shapes.back().type != type || shapes.back().op != op) shapes.push_back(shape);
      }
  return shapes;
}

std::size_t capacity_of(const Run& run) {
  std::size_t bytes = 0;
  for (const Shape& shape : shapes_of(run)) bytes = std::max(bytes, shape.bytes() + run.settings.unalign * collectives::size_of(shape.type));
  return bytes;
}

std::vector<std::unique_ptr<Contender>> make_contenders(Worker& worker, const Run& run) {
  const std::size_t capacity = capacity_of(run);
  std::vector<std::unique_ptr<Contender>> contenders;
  contenders.push_back(make_ours(worker, run.collective, capacity));
  for (const std::string& name : run.settings.compare)
    contenders.push_back(make_nccl(worker, run.collective, *contenders.front(), capacity, name == "nccl-symmetric"));
  return contenders;
}

/// Prints what one worker knows for all; the others have none.
class Printer {
 public:
  Printer(const Run& run, Worker& worker) : run_(run), leads_(worker.leads()) {
    const auto labels = worker.board->gather_labels(worker.first_rank, labels_of(worker));
    if (!leads_) return;
    const std::string nccl_version = run.settings.compare.empty() ? "" : compared_nccl_version(run.settings);
    if (!run.settings.json_file.empty()) json_.emplace(run.settings.json_file).begin(worker, run.args, labels, nccl_version);
    print_header(run, labels, nccl_version);
  }

  void progress(std::size_t done, std::size_t all, const Shape& shape) const {
    if (!leads_ || !terminal_) return;
    fmt::print(stderr, "\r{}/{} lines, now {} bytes {} {}\033[K", done, all, shape.bytes(), name_of(shape.type), name_of(shape.op));
    std::fflush(stderr);
  }

  void line(const Line& line) {
    if (!leads_) return;
    if (terminal_) fmt::print(stderr, "\r\033[K");
    fmt::print("{}", row(line, run_.style));
    std::fflush(stdout);
    if (json_) json_->add(line, run_.style);
  }

  void finish(const Totals& totals, const std::vector<double>& creation_ms) {
    if (!leads_) return;
    fmt::print("{}{}", created(run_.style, creation_ms), footer(run_.collective.name, totals.wrong, totals.average_bus()));
    if (!json_) return;
    json_->finish(totals, run_.style, creation_ms);
    fmt::print("# JSON: {}\n", json_->path());
  }

 private:
  const Run& run_;
  bool leads_ = false;
  bool terminal_ = isatty(STDERR_FILENO) == 1;
  std::optional<JsonReport> json_;
};

/// By contender: how long the slowest worker waited for its communicators.
std::vector<double> creation_times(Worker& worker, const std::vector<std::unique_ptr<Contender>>& contenders) {
  std::vector<double> mine, slowest(contenders.size());
  for (const auto& contender : contenders) mine.push_back(contender->creation_ms());
  for (const std::vector<double>& row : worker.board->gather(worker.first_rank, std::vector<std::vector<double>>(worker.places.size(), mine)))
    for (std::size_t c = 0; c < slowest.size(); ++c) slowest[c] = std::max(slowest[c], row.at(c));
  return slowest;
}

bool works_in_place(collectives::Collective kind) {
  return kind != collectives::Collective::all_to_all && kind != collectives::Collective::exchange;
}

int sweep(Worker& worker, const Run& run) {
  Printer printer(run, worker);
  auto contenders = make_contenders(worker, run);
  const std::vector<double> creation_ms = creation_times(worker, contenders);
  Measurement measurement(worker, run.collective, contenders);
  const std::vector<Shape> shapes = shapes_of(run);
  Totals totals;
  const int cycles = run.settings.run_cycles == 0 ? INT_MAX : run.settings.run_cycles;
  for (int cycle = 0; cycle < cycles; ++cycle)
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      Shape shape = shapes[i];
      printer.progress(i, shapes.size(), shape);
      Line line{.shape = shape,
                .kind = run.collective.kind,
                .root = collectives::has_root(run.collective.kind) ? run.settings.root : -1,
                .bus_factor = run.collective.bus_factor(run.layout.ranks()),
                .plan = {},
                .out_of_place = {},
                .in_place = {}};
      line.plan = worker.communicators.front().plan_for(
          {.collective = line.kind, .count = shape.count, .type = shape.type, .op = shape.op, .root = std::max(line.root, 0)});
      line.out_of_place = measurement.run(shape);
      shape.in_place = true;
      line.in_place = works_in_place(line.kind) ? measurement.run(shape) : std::vector<Result>(contenders.size());
      totals.add(line);
      printer.line(line);
    }
  printer.finish(totals, creation_ms);
  return totals.wrong == 0 ? 0 : 1;
}

int run_sweep(Settings settings, const Collective& collective, std::vector<std::string> args) {
  // Ranks that share a GPU wait for each other: each needs a hardware queue of its own.
  if (settings.virtual_ranks) setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 1);
  // Read when NCCL is opened; no comparison here may create multicast objects.
  if (!settings.compare.empty()) setenv("NCCL_NVLS_ENABLE", "0", 1);
  Survey survey{.gpus = 0, .why_none = "not asked for"};
  if (!settings.cpu_ranks) survey = settings.processes ? survey_gpus_in_child() : survey_gpus();
  const Layout layout = choose_layout(settings, survey);
  const bool ignored_graphs = settings.graph_launches > 0 && !layout.on_gpu();
  if (ignored_graphs) settings.graph_launches = 0;
  Run run{.collective = collective,
          .settings = settings,
          .layout = layout,
          .args = std::move(args),
          .style = {},
          .ignored_graphs = ignored_graphs};
  run.style.per_call = settings.per_call;
  run.style.contenders.insert(run.style.contenders.end(), settings.compare.begin(), settings.compare.end());
  const std::size_t figures = std::max(Measurement::figures(settings), run.style.contenders.size());
  return run_team(settings, layout, figures, [&](Worker& worker) { return sweep(worker, run); });
}

}  // namespace

int perf_main(int argc, const char* const* argv, const Collective& collective) {
  constexpr int usage_status = 2, failure_status = 3;
  std::optional<Settings> settings;
  try {
    settings = parse_settings(argc, argv, collective.name);
    if (!settings) return 0;
    return run_sweep(*settings, collective, std::vector<std::string>(argv, argv + argc));
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return settings ? failure_status : usage_status;
  }
}

}  // namespace perf
