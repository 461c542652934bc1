#pragma once

#include <collectives/topology.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace cli {

enum class Engine { vllm, sglang, exllamav3, llama_cpp, torch };

/// Throws Error(invalid_argument) that lists the names.
Engine parse_engine(std::string_view text);

/// Does it want attention heads that the ranks divide evenly? The others cut them as they like.
bool wants_even_heads(Engine engine);

/// How an engine is started on some GPUs: one line to run, and why its flags and variables are there.
struct EngineAdvice {
  std::string command;
  std::vector<std::string> reasons;
};

/// `visible` is what names the devices to CUDA, of `visible_devices`.
EngineAdvice advice_for(Engine engine, const collectives::Machine& machine, const std::vector<int>& devices, const std::string& visible);

/// "0,1,2": for CUDA_VISIBLE_DEVICES. Where that is `set` already, CUDA's ordinals count what stands there, and these are its words.
std::string visible_devices(const std::vector<int>& devices, std::string_view set = {});

}  // namespace cli
