#include <fmt/format.h>

#include <algorithm>
#include <collectives/communicator.hpp>
#include <collectives/error.hpp>
#include <collectives/verify.hpp>

#include "cli/advice_text.hpp"
#include "cli/command.hpp"
#include "cli/options.hpp"

namespace cli {
namespace {

using collectives::Error;
using collectives::ErrorCode;
using collectives::Machine;

struct AdviseOptions {
  CommonOptions common;
  std::string model_bytes, cache_bytes, gpu_bytes, among, engine;
  int tp = 0;
  Model model;
};

void fill_model(AdviseOptions& options) {
  Model& model = options.model;
  if (!options.model_bytes.empty()) model.bytes = parse_bytes(options.model_bytes);
  model.cache_bytes = options.cache_bytes.empty() ? model.bytes / 5 : parse_bytes(options.cache_bytes);
  if (!options.engine.empty()) model.even_heads = wants_even_heads(parse_engine(options.engine));
  // A size that was asked for is taken as it is.
  if (options.tp > 0) model.even_heads = false;
}

void fill_memory(Machine& machine, const AdviseOptions& options, const std::vector<int>& devices) {
  for (const int gpu : machine.gpus()) {
    auto& node = machine.nodes[static_cast<std::size_t>(gpu)];
    if (!options.gpu_bytes.empty()) node.memory_bytes = parse_bytes(options.gpu_bytes);
    const bool counts = std::find(devices.begin(), devices.end(), node.device) != devices.end();
    if (counts && node.memory_bytes == 0 && options.model.bytes > 0)
      throw Error(
          ErrorCode::invalid_argument,
          fmt::format("the description does not say how much memory GPU {} has: expected --gpu-bytes 24G or the like", node.device));
  }
}

Advice advice_on(const Machine& machine, const std::vector<int>& among, const AdviseOptions& options) {
  if (options.tp == 0) return advise_size(machine, among, options.model);
  if (static_cast<std::size_t>(options.tp) > among.size())
    throw Error(ErrorCode::invalid_argument, fmt::format("--tp {}: expected at most {}, the GPUs there are", options.tp, among.size()));
  return advise_groups(machine, among, options.tp, options.model);
}

}  // namespace

Exit run_advise(const Words& words, std::ostream& out) {
  CLI::App app("Which GPUs to use, and how many: every group compared by what a model's all-reduces take on it", "collectives advise");
  AdviseOptions options;
  add_common_options(app, options.common);
  app.add_option("--tp", options.tp, "tensor-parallel size: the best groups of so many GPUs")->check(CLI::Range(2, 16));
  app.add_option("--model-bytes", options.model_bytes, "the weights, such as 140G: the best size too, if --tp does not say it");
  app.add_option("--cache-bytes", options.cache_bytes, "keys and values, in all; default: a fifth of the weights");
  app.add_option("--gpu-bytes", options.gpu_bytes, "memory of each GPU, where the description does not say it");
  app.add_option("--among", options.among, "GPUs (CUDA ordinals) that may be used; default: all, 16 at most")->type_name("0,1,2");
  app.add_option("--hidden", options.model.hidden, "values of a token between layers")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--layers", options.model.layers, "with two all-reduces each")->check(CLI::Range(1, 10'000))->capture_default_str();
  app.add_option("--heads", options.model.heads, "attention heads, which most engines want to divide evenly")
      ->check(CLI::Range(1, 10'000))
      ->capture_default_str();
  app.add_option("--for", options.engine, "vllm, sglang, exllamav3, llama.cpp or torch: its flags and variables");
  app.footer("Every time is the model's prediction; nothing is measured.");
  if (!parse(app, words, out)) return Exit::healthy;
  if (options.tp == 0 && options.model_bytes.empty()) throw Error(ErrorCode::invalid_argument, "expected --tp N or --model-bytes SIZE");

  fill_model(options);
  Advised advised{.machine = machine_of(options.common), .model = options.model, .advice = {}, .engine = {}, .visible = {}};
  if (options.common.machine_file.empty()) advised.visible = collectives::look_around().visible_devices;
  if (!options.engine.empty()) advised.engine = parse_engine(options.engine);
  const std::vector<int> among = options.among.empty() ? devices_of(advised.machine, options.tp > 0 ? 2 : 1) : parse_devices(options.among);
  require_devices(advised.machine, among);
  if (among.size() > collectives::max_ranks)
    throw Error(ErrorCode::invalid_argument, fmt::format("{} GPUs are too many to look at every group: expected --among with at most {}",
                                                         among.size(), collectives::max_ranks));
  fill_memory(advised.machine, options, among);
  advised.advice = advice_on(advised.machine, among, options);
  out << (options.common.json ? advice_json(advised) : advice_text(advised));
  return Exit::healthy;
}

}  // namespace cli
