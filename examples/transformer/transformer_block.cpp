// A tensor-parallel transformer block on libcollectives: checked against one rank that has the whole weights, then timed.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <optional>

#include "check.hpp"

using namespace transformer;
using collectives::Error;
using collectives::ErrorCode;

namespace {

struct Options {
  std::string backend = "auto", compare, nccl_library = "libnccl.so.2", fault = "none";
  std::vector<int> batches{1, 8, 32};
  int steps = 0;
  bool against_cpu = false;
  Team::Setting team{.shape = {}, .limits = {}, .ranks = 0, .seed = 1};
};

/// What was not asked for: the proportions of Llama 3 at 4096 on GPUs, a block that CPU ranks finish in seconds elsewhere.
void complete(Options& options) {
  Team::Setting& team = options.team;
  Shape& shape = team.shape;
  const int gpus = options.backend == "host" ? 0 : count_gpus();
  if (options.backend == "cuda" && gpus == 0)
    throw Error(ErrorCode::unsupported, "--backend cuda: no GPU is seen, or this build has no CUDA engine");
  if (!options.compare.empty() && gpus == 0) throw Error(ErrorCode::unsupported, "--compare nccl: NCCL joins GPUs alone");
  team.gpus = gpus;
  const auto unless_given = [](int& value, int otherwise) {
    if (value < 0) value = otherwise;
  };
  if (team.ranks == 0) team.ranks = gpus > 0 ? gpus : 2;
  unless_given(shape.hidden, gpus > 0 ? 4096 : 256);
  unless_given(shape.heads, std::max(1, shape.hidden / (gpus > 0 ? 128 : 32)));
  unless_given(shape.kv_heads, gpus > 0 && shape.heads % 8 == 0 ? 8 : gpus == 0 && shape.heads % 2 == 0 ? shape.heads / 2 : shape.heads);
  unless_given(shape.head_dim, shape.hidden / shape.heads);
  unless_given(shape.mlp, shape.hidden * 7 / 2 / 8 * 8);
  unless_given(shape.layers, gpus > 0 ? 4 : 2);
  unless_given(team.limits.prefill, gpus > 0 ? 2048 : 48);
  if (options.steps == 0) options.steps = gpus > 0 ? 100 : 3;
  team.context = team.limits.prefill;
  // A round takes one step before those that are timed.
  team.limits.capacity = team.context + options.steps + 1;
  for (int batch : options.batches) team.limits.sequences = std::max(team.limits.sequences, batch);
}

Options parse(int argc, char** argv, std::optional<int>& leave) {
  Options options;
  Team::Setting& team = options.team;
  team.shape = {-1, -1, -1, -1, -1, -1};
  team.limits.prefill = -1;
  CLI::App app("A tensor-parallel decoder block on libcollectives, checked against one rank and timed.", "transformer_block");
  app.add_option("--backend", options.backend, "auto: CUDA if there is a GPU")->check(CLI::IsMember({"auto", "host", "cuda"}));
  app.add_option("--ranks", team.ranks, "default: all GPUs, or 2 CPU ranks; more ranks than GPUs share them")->check(CLI::Range(1, 16));
  const auto size = [&](const char* name, int& value, const char* text) {
    app.add_option(name, value, text)->check(CLI::Range(1, 1 << 20));
  };
  size("--hidden", team.shape.hidden, "default 4096, on CPU ranks 256");
  size("--heads", team.shape.heads, "query heads; default hidden/128, on CPU ranks hidden/32");
  size("--kv-heads", team.shape.kv_heads, "default 8, on CPU ranks half the heads; as many as heads where that does not divide them");
  size("--head-dim", team.shape.head_dim, "default hidden/heads");
  size("--mlp", team.shape.mlp, "default 3.5 hidden");
  size("--layers", team.shape.layers, "default 4, on CPU ranks 2");
  size("--steps", options.steps, "timed steps a round, of five; default 100, on CPU ranks 3");
  app.add_option("--batch", options.batches, "sequences of the decode runs: 1,8,32")->delimiter(',')->check(CLI::Range(1, 4096));
  app.add_option("--prefill", team.limits.prefill,
                 "tokens of the prefill run and of the cache that decoding finds; default 2048, on CPU ranks 48")
      ->check(CLI::Range(2, 1 << 20));
  app.add_flag("--against-cpu", options.against_cpu, "compare end to end with one CPU rank too: for small sizes");
  app.add_option("--seed", team.seed, "of weights, inputs and caches")->capture_default_str();
  app.add_option("--compare", options.compare, "nccl: time the same block on NCCL too")->check(CLI::IsMember({"nccl"}));
  app.add_option("--nccl-library", options.nccl_library, "what to open as NCCL")->capture_default_str();
  app.add_option("--fault", options.fault, "plant a fault on rank 1, which the check must find")
      ->check(CLI::IsMember({"none", "skip-join", "wrong-shard"}));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    leave = app.exit(error) == 0 ? 0 : 2;
    return options;
  }
  if (options.fault == "skip-join") team.fault = Fault::skip_join;
  if (options.fault == "wrong-shard") team.fault = Fault::wrong_shard;
  complete(options);
  if (team.fault != Fault::none && team.ranks == 1) throw Error(ErrorCode::invalid_argument, "--fault needs a rank 1");
  return options;
}

std::string words_for(const Batch& batch) {
  return batch.is_prefill() ? "prefill of " + std::to_string(batch.each) + " tokens" : "decode, batch " + std::to_string(batch.sequences);
}

void print(const Drift& drift, const char* what) {
  std::printf("  %-26s RMS error %.4g of the output's RMS, bound %.4g\n", what, drift.value, drift.bound);
}

void print(const Verdict& verdict, const Batch& batch) {
  std::printf("\ncheck: %s\n", words_for(batch).c_str());
  for (int i = 0; i < stage_count; ++i) {
    const Worst& worst = verdict.stages[static_cast<std::size_t>(i)];
    if (is_compared(static_cast<Stage>(i)))
      std::printf("  %-26s largest error %-11.4g bound there %-11.4g ratio %-8.3g layer %d rank %d\n", name_of(static_cast<Stage>(i)),
                  worst.error, worst.bound, worst.ratio, worst.layer, worst.rank);
  }
  std::printf("  %-26s %zu elements in which ranks differ%s\n", "the ranks' residuals", verdict.unequal,
              verdict.replays_alike ? "" : "; A CAPTURED STEP GAVE OTHER BITS");
  print(verdict.drift, "end to end");
  std::printf("  %s\n", verdict.passed() ? "matches one rank" : "DOES NOT MATCH ONE RANK");
}

void print_times(Team& team, const Options& options, const std::vector<Batch>& batches) {
  std::printf("\n%-24s %-15s %12s %12s %22s\n", "run", "joined by", "ms a step", "tokens/s", "share of all-reduce");
  for (const Batch& batch : batches) {
    const int steps = batch.is_prefill() ? std::max(1, options.steps / 10) : options.steps;
    const double without = team.time_step(batch, Team::Joining::none, steps);
    const auto line = [&](const char* by, double ms) {
      const double share = 1 - without / ms;  // below 0: less than the noise
      std::printf("%-24s %-15s %12.4f %12.0f %21.1f%%\n", words_for(batch).c_str(), by, ms, batch.tokens() * 1000.0 / ms, 100 * share);
    };
    line("libcollectives", team.time_step(batch, Team::Joining::ours, steps));
    if (!options.compare.empty()) line("NCCL", team.time_step(batch, Team::Joining::nccl, steps));
    std::printf("%-24s %-15s %12.4f\n", words_for(batch).c_str(), "(left out)", without);
    std::fflush(stdout);
  }
}

/// Checks all runs, and says so.
bool matches(Team& team, const Options& options, const std::vector<Batch>& batches) {
  Team::Setting one = options.team;
  one.ranks = 1;
  one.fault = Fault::none;
  Team alone(one);
  one.gpus = 0;
  std::optional<Team> on_cpu;
  if (options.against_cpu) on_cpu.emplace(one);
  bool passed = true;
  for (const Batch& batch : batches) {
    const Verdict verdict = check(team, alone, batch);
    print(verdict, batch);
    passed = passed && verdict.passed();
    if (on_cpu) {
      const Drift drift = drift_from(*on_cpu, team, batch);
      print(drift, drift.passed() ? "from one CPU rank" : "TOO FAR FROM ONE CPU RANK");
      passed = passed && drift.passed();
    }
    std::fflush(stdout);
  }
  return passed;
}

int run(const Options& options) {
  const Team::Setting& setting = options.team;
  const Shape& shape = setting.shape;
  Team team(setting);
  if (!options.compare.empty()) team.open_nccl(options.nccl_library);
  std::printf(
      "hidden %d, %d heads of %d over %d of keys and values, MLP %d, %d layers, bf16; %d ranks on %s, %d cached positions, seed %llu\n",
      shape.hidden, shape.heads, shape.head_dim, shape.kv_heads, shape.mlp, shape.layers, setting.ranks,
      setting.gpus == 0              ? "the CPU"
      : setting.gpus < setting.ranks ? "GPUs that they share"
                                     : "a GPU each",
      setting.context, static_cast<unsigned long long>(setting.seed));
  std::vector<Batch> batches;
  for (int sequences : options.batches) batches.push_back({sequences, 1});
  batches.push_back({1, setting.limits.prefill});
  if (!matches(team, options, batches)) return 1;
  print_times(team, options, batches);
  std::printf("share: a captured step against the same one with its all-reduces left out; slowest rank, median of 5 rounds\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    std::optional<int> leave;
    const Options options = parse(argc, argv, leave);
    return leave ? *leave : run(options);
  } catch (const Error& error) {
    std::fprintf(stderr, "transformer_block: %s: %s\n", name_of(error.code()), error.what());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "transformer_block: %s\n", error.what());
  }
  return 2;
}
