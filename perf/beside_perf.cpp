// What an all-reduce costs a matrix product that runs on the same GPUs, and what the product costs it.
#include "perf/beside.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <collectives/error.hpp>
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "perf/all_reduce.hpp"
#include "perf/beside_report.hpp"

namespace {

using namespace perf;
using collectives::Communicator;
using collectives::Error;
using collectives::ErrorCode;

constexpr double deadline_s = 60;
constexpr std::uint32_t timeout_ms = 20'000;

struct CommandLine {
  int ranks = 0, repetitions = 5, in_a_row = 4, factor = 4;
  bool urgent = false;
  std::string smallest = "16M", largest = "256M", product = "8192x8192x8192", nccl_library = "libnccl.so.2", json_file;
  std::vector<std::string> contenders{"ours", "copy_two_shot"};
};

/// "ours", an algorithm or "nccl", each with the most thread blocks behind a colon: what communicators are made with.
Settings settings_of(const std::string& contender, const CommandLine& line) {
  Settings settings;
  settings.nccl_library = line.nccl_library;
  settings.library.timeout_ms = timeout_ms;
  settings.library.backend = collectives::Backend::cuda;
  const std::size_t colon = contender.rfind(':');
  std::string name = contender.substr(0, colon);
  int most = 0;
  if (colon != std::string::npos) {
    const char* end = contender.data() + contender.size();
    const auto [rest, failure] = std::from_chars(contender.data() + colon + 1, end, most);
    if (failure != std::errc{} || rest != end || most < 1)
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("'{}' has no number of blocks behind the colon: expected such as ours:16", contender));
  }
  if (name == "nccl") {
    settings.compare = {name};
    settings.nccl_max_ctas = most;
    return settings;
  }
  settings.library.max_blocks = most;
  if (name != "ours") settings.library.algorithm = collectives::parse_algorithm(name);
  return settings;
}

bool is_nccl(const Settings& settings) { return !settings.compare.empty(); }

class Runner {
 public:
  Runner(const CommandLine& line, const Layout& layout) : line_(line), layout_(layout), board_(1, layout.ranks(), 1, deadline_s) {
    run_.ranks = layout.ranks();
    run_.product = parse_product(line.product);
    run_.in_a_row = line.in_a_row;
    run_.urgent = line.urgent;
    worker_.layout = &layout_;
    worker_.board = &board_;
    for (const int device : layout.devices) {
      worker_.places.push_back(make_cuda_place(device, false, line.urgent));
      products_.push_back(std::make_unique<Product>(device, run_.product, line.in_a_row));
      run_.places.push_back(worker_.places.back()->describe());
    }
    worker_.settings = &buffers_settings_;
    buffers_ = make_ours(worker_, all_reduce, parse_size(line.largest));
  }

  /// Elements that were wrong.
  std::uint64_t run() {
    for (const std::string& contender : line_.contenders)
      if (const Settings settings = settings_of(contender, line_); is_nccl(settings)) run_.nccl_version = compared_nccl_version(settings);
    fmt::print("{}", heading(run_));
    std::uint64_t wrong = 0;
    for (const std::string& contender : line_.contenders) wrong += run_contender(contender);
    if (!line_.json_file.empty()) write_json();
    return wrong;
  }

 private:
  /// One contender's communicators at a time: those of a process share a pool, and the next one's plans shall have all of it.
  std::uint64_t run_contender(const std::string& name) {
    const Settings settings = settings_of(name, line_);
    worker_.settings = &settings;
    std::unique_ptr<Contender> nccl;
    if (is_nccl(settings))
      nccl = make_nccl(worker_, all_reduce, *buffers_, parse_size(line_.largest), false);
    else
      worker_.communicators = Communicator::create_local(layout_.devices, settings.library);
    Contender& contender = nccl ? *nccl : *buffers_;
    std::uint64_t wrong = 0;
    const std::size_t last = parse_size(line_.largest);
    for (std::size_t bytes = parse_size(line_.smallest); bytes <= last; bytes *= static_cast<std::size_t>(line_.factor)) {
      const std::size_t count = bytes / collectives::size_of(DataType::bfloat16);
      BesideLine& line =
          lines_.emplace_back(BesideLine{.contender = name, .plan = nccl ? "" : plan_of(count), .bytes = bytes, .result = {}});
      line.result = beside_.run(contender, count, line_.repetitions);
      fmt::print("{}", row(run_, line));
      std::fflush(stdout);
      wrong += line.result.wrong;
    }
    nccl.reset();
    worker_.communicators.clear();
    worker_.settings = &buffers_settings_;
    return wrong;
  }

  std::string plan_of(std::size_t count) const {
    const collectives::Plan plan = worker_.communicators.front().plan_for(count, DataType::bfloat16, ReduceOp::sum);
    return fmt::format("{}, {} blocks", to_string(plan.choice), plan.blocks);
  }

  void write_json() const {
    std::ofstream file(line_.json_file);
    file << to_json(run_, lines_);
    if (!file.flush()) throw Error(ErrorCode::system, "cannot write " + line_.json_file);
  }

  const CommandLine& line_;
  Layout layout_;
  Board board_;
  Settings buffers_settings_;
  Worker worker_;
  std::vector<std::unique_ptr<Product>> products_;
  std::unique_ptr<Contender> buffers_;
  Beside beside_{worker_, products_, line_.in_a_row};
  BesideRun run_;
  std::vector<BesideLine> lines_;
};

}  // namespace

int main(int argc, char** argv) {
  CommandLine line;
  CLI::App app("Measures what all-reduces and matrix products cost each other", "beside_perf");
  app.add_option("-g,--ngpus", line.ranks, "GPUs (default: all)")->check(CLI::Range(2, collectives::max_ranks));
  app.add_option("-b,--minbytes", line.smallest, "smallest all-reduce, with K, M or G")->capture_default_str();
  app.add_option("-e,--maxbytes", line.largest, "largest all-reduce")->capture_default_str();
  app.add_option("-f,--stepfactor", line.factor, "multiplied from size to size")->check(CLI::Range(2, 1024))->capture_default_str();
  app.add_option("-n,--iters", line.repetitions, "repetitions; the median counts")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--product", line.product, "rows, columns and depth of the product")->capture_default_str();
  app.add_option("--in-a-row", line.in_a_row, "products that are timed together")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--contenders", line.contenders, "ours, an algorithm or nccl, each with :N for at most N thread blocks")
      ->delimiter(',')
      ->capture_default_str();
  app.add_flag("--urgent", line.urgent, "all-reduces on streams of the greatest priority");
  app.add_option("--nccl-library", line.nccl_library, "what nccl opens")->capture_default_str();
  app.add_option("--json", line.json_file, "write the results there too");
  CLI11_PARSE(app, argc, argv);
  setenv("NCCL_NVLS_ENABLE", "0", 1);  // before NCCL is opened: it reads it once
  try {
    const Survey survey = survey_gpus();
    if (line.ranks == 0) line.ranks = std::min(survey.gpus, collectives::max_ranks);
    if (survey.gpus < 2 || line.ranks > survey.gpus) {
      fmt::print("{} GPUs where {} are wanted: there is nothing to measure\n", survey.gpus, std::max(line.ranks, 2));
      return 0;
    }
    Settings wish;
    wish.threads = 1;
    wish.ranks_per_thread = line.ranks;
    return Runner(line, choose_layout(wish, survey)).run() == 0 ? 0 : 1;
  } catch (const Error& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return error.code() == ErrorCode::invalid_argument ? 2 : 3;
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 3;
  }
}
