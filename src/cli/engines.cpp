#include "cli/engines.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <collectives/error.hpp>

namespace cli {
namespace {

using collectives::Machine;
using collectives::Peer;

constexpr std::pair<std::string_view, Engine> names[] = {{"vllm", Engine::vllm},
                                                         {"sglang", Engine::sglang},
                                                         {"exllamav3", Engine::exllamav3},
                                                         {"llama.cpp", Engine::llama_cpp},
                                                         {"torch", Engine::torch}};

/// How the GPUs of a group reach each other.
struct Reach {
  int pairs = 0;
  int direct = 0;
  int nvlink = 0;
  int far = 0;     ///< direct through a CPU's root
  int across = 0;  ///< direct, from socket to socket

  bool none() const { return direct == 0; }
  bool all() const { return direct == pairs; }
  bool all_nvlink() const { return nvlink == pairs; }
};

Reach reach_of(const Machine& machine, const std::vector<int>& devices) {
  std::vector<int> nodes;
  for (const int gpu : machine.gpus())
    if (std::find(devices.begin(), devices.end(), machine.nodes[static_cast<std::size_t>(gpu)].device) != devices.end())
      nodes.push_back(gpu);
  Reach reach;
  for (const int from : nodes)
    for (const int to : nodes) {
      if (from == to) continue;
      ++reach.pairs;
      const Peer* peer = machine.peer(from, to);
      if (!peer || !peer->access) continue;
      ++reach.direct;
      if (peer->path.rfind("NV", 0) == 0) ++reach.nvlink;
      if (peer->path == "PHB" || peer->path == "NODE") ++reach.far;
      if (peer->path == "SYS") ++reach.across;
    }
  return reach;
}

/// What NCCL must be told to use the peers that there are.
void add_nccl(std::string& variables, std::vector<std::string>& reasons, const Reach& reach) {
  if (reach.none()) {
    variables += "NCCL_P2P_DISABLE=1 ";
    reasons.push_back("NCCL_P2P_DISABLE=1: no GPU of the group reaches another's memory");
  } else if (reach.across > 0 || reach.far > 0) {
    const char* level = reach.across > 0 ? "SYS" : "PHB";
    variables += fmt::format("NCCL_P2P_LEVEL={} ", level);
    reasons.push_back(
        fmt::format("NCCL_P2P_LEVEL={}: by itself NCCL leaves peers unused whose way leads through a CPU; some platforms are slower with "
                    "them, so measure both",
                    level));
  }
}

/// vLLM and SGLang have one that serves so many ranks, so joined.
bool has_own_all_reduce(const Reach& reach, std::size_t size) {
  return size == 2 ? reach.all() : reach.all_nvlink() && size % 2 == 0 && size <= 8;
}

EngineAdvice vllm(const Reach& reach, std::string variables, std::size_t size) {
  EngineAdvice advice;
  add_nccl(variables, advice.reasons, reach);
  const bool own = has_own_all_reduce(reach, size);
  advice.command =
      fmt::format("{}vllm serve MODEL --tensor-parallel-size {}{}", variables, size, own ? "" : " --disable-custom-all-reduce");
  advice.reasons.push_back(own ? "vLLM's own all-reduce is left on: it takes messages up to 8 MiB on 2 GPUs with peer access, or on 4, 6 "
                                 "and 8 with NVLink between all"
                               : "--disable-custom-all-reduce: vLLM's own all-reduce takes 2 GPUs with peer access, or 4, 6 and 8 with "
                                 "NVLink between all, and none of "
                                 "these are here: NCCL does them all");
  return advice;
}

EngineAdvice sglang(const Reach& reach, std::string variables, std::size_t size) {
  EngineAdvice advice;
  add_nccl(variables, advice.reasons, reach);
  const bool own = has_own_all_reduce(reach, size);
  advice.command = fmt::format("{}python3 -m sglang.launch_server --model-path MODEL --tp {}{}", variables, size,
                               own ? "" : " --disable-custom-all-reduce");
  if (!own)
    advice.reasons.push_back(
        "--disable-custom-all-reduce: its own all-reduce takes 2 GPUs with peer access, or 4, 6 and 8 with NVLink between all");
  return advice;
}

EngineAdvice exllamav3(const Reach& reach, std::string variables) {
  EngineAdvice advice;
  if (!reach.none()) add_nccl(variables, advice.reasons, reach);
  advice.command = fmt::format("{}python3 YOUR_SCRIPT.py -m MODEL -tp -tpb {}", variables, reach.none() ? "native" : "nccl");
  advice.reasons.push_back(reach.none() ? "-tpb native: it goes through host memory, as everything must here"
                                        : "-tpb nccl: the native backend goes through host memory and leaves peers unused. NCCL sends "
                                          "bfloat16, so sums are rounded at every hop");
  return advice;
}

EngineAdvice llama_cpp(const Reach& reach, std::string variables, std::size_t size) {
  EngineAdvice advice;
  if (reach.none()) {
    if (size == 2) variables += "GGML_CUDA_ALLREDUCE=internal ";
    advice.reasons.push_back(size == 2 ? "GGML_CUDA_ALLREDUCE=internal: made for 2 GPUs without peer access"
                                       : "no peer access, and more than 2 GPUs: -sm layer may be faster; measure both");
  } else {
    variables += "GGML_CUDA_P2P=1 GGML_CUDA_ALLREDUCE=nccl ";
    add_nccl(variables, advice.reasons, reach);
    advice.reasons.push_back("GGML_CUDA_P2P=1: peer access is off without it");
    advice.reasons.push_back("GGML_CUDA_ALLREDUCE=nccl: takes a build with NCCL, which the official images are not");
  }
  advice.command = fmt::format("{}llama-server -m MODEL.gguf -ngl 99 -sm tensor", variables);
  return advice;
}

EngineAdvice torch(const Reach& reach, std::string variables, std::size_t size) {
  EngineAdvice advice;
  add_nccl(variables, advice.reasons, reach);
  advice.command = fmt::format("{}torchrun --standalone --nproc-per-node={} YOUR_SCRIPT.py", variables, size);
  return advice;
}

}  // namespace

Engine parse_engine(std::string_view text) {
  std::string known;
  for (const auto& [name, engine] : names) {
    if (text == name) return engine;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", name);
  }
  throw collectives::Error(collectives::ErrorCode::invalid_argument, fmt::format("unknown engine '{}': expected one of {}", text, known));
}

bool wants_even_heads(Engine engine) { return engine != Engine::exllamav3 && engine != Engine::llama_cpp; }

std::string visible_devices(const std::vector<int>& devices, std::string_view set) {
  std::vector<std::string_view> words;
  for (std::size_t begin = 0; begin < set.size();) {
    const std::size_t end = std::min(set.find(',', begin), set.size());
    words.push_back(set.substr(begin, end - begin));
    begin = end + 1;
  }
  std::string out;
  for (const int device : devices) {
    const auto place = static_cast<std::size_t>(device);
    out += fmt::format("{}{}", out.empty() ? "" : ",", place < words.size() ? std::string(words[place]) : std::to_string(device));
  }
  return out;
}

EngineAdvice advice_for(Engine engine, const Machine& machine, const std::vector<int>& devices, const std::string& visible) {
  const Reach reach = reach_of(machine, devices);
  const std::string variables = fmt::format("CUDA_VISIBLE_DEVICES={} ", visible);
  switch (engine) {
    case Engine::vllm:
      return vllm(reach, variables, devices.size());
    case Engine::sglang:
      return sglang(reach, variables, devices.size());
    case Engine::exllamav3:
      return exllamav3(reach, variables);
    case Engine::llama_cpp:
      return llama_cpp(reach, variables, devices.size());
    case Engine::torch:
      return torch(reach, variables, devices.size());
  }
  return {};
}

}  // namespace cli
