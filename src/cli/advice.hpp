#pragma once

#include <collectives/groups.hpp>
#include <collectives/topology.hpp>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace cli {

/// What is to run, as far as advice depends on it. The shape is that of a Llama of 70 billion parameters.
struct Model {
  std::size_t bytes = 0;        ///< its weights; 0 if not known
  std::size_t cache_bytes = 0;  ///< of keys and values, in all
  int hidden = 8192;
  int layers = 80;
  int heads = 64;
  bool even_heads = true;  ///< sizes must divide the heads
};

inline constexpr int reply_tokens = 256, prompt_tokens = 2048;

/// The all-reduces of a conversation: two a layer for each token of the reply, and two a layer for the prompt at once, in bf16.
std::vector<collectives::Work> conversation(const Model& model);

/// One tensor-parallel size.
struct SizeAdvice {
  int size = 1;
  double bytes_per_gpu = 0;                        ///< weights and cache; 0 if not known
  std::string obstacle;                            ///< why it cannot be; empty if it can
  std::optional<collectives::GroupSearch> search;  ///< none for one GPU
  std::vector<int> devices;                        ///< the best group
  std::optional<double> token_us;  ///< weights read once, and the all-reduces of a token; none if a chip's memory is not known
};

struct Advice {
  std::vector<SizeAdvice> sizes;  ///< all that were looked at
  std::size_t taken = 0;          ///< index of the recommended one
  std::string why;
  std::vector<std::vector<int>> beside;  ///< more groups of that size, of the GPUs that are left
};

/// The best groups of `size` of these GPUs.
Advice advise_groups(const collectives::Machine& machine, const std::vector<int>& among, int size, const Model& model);
/// The best size too: of those that hold the model the one with the fastest token, fewer GPUs where that is within 5 %, or the fewest
/// GPUs where a chip's memory is not known. Throws Error(unsupported) if none holds it.
Advice advise_size(const collectives::Machine& machine, const std::vector<int>& among, const Model& model);

/// Of the links within a group: how many are direct, and how many of these were measured or verified.
struct EvidenceCount {
  int links = 0, direct = 0, proved = 0;
};
EvidenceCount evidence_of(const collectives::Machine& machine, const std::vector<int>& devices);

}  // namespace cli
