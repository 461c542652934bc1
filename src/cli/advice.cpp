#include "cli/advice.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <collectives/communicator.hpp>
#include <collectives/error.hpp>

#include "cli/chip_memory.hpp"
#include "cli/text.hpp"

namespace cli {
namespace {

using collectives::DataType;
using collectives::Error;
using collectives::ErrorCode;
using collectives::Evidence;
using collectives::GroupSearch;
using collectives::Machine;
using collectives::Node;
using collectives::Peer;

/// What engines take of a GPU's memory unless they are told otherwise.
constexpr double usable_share = 0.9;
// For each size, and for the one that is shown in full.
constexpr std::size_t kinds_for_a_size = 4, kinds_shown = 64;

const Node& gpu_of(const Machine& machine, int device) {
  for (const int gpu : machine.gpus())
    if (machine.nodes[static_cast<std::size_t>(gpu)].device == device) return machine.nodes[static_cast<std::size_t>(gpu)];
  throw Error(ErrorCode::invalid_argument, fmt::format("the machine has no GPU {}", device));
}

/// Weights and cache of one GPU; 0 if the model is not known.
double need_of(const Model& model, int size) { return static_cast<double>(model.bytes + model.cache_bytes) / size; }

std::vector<int> large_enough(const Machine& machine, const std::vector<int>& among, double need) {
  std::vector<int> devices;
  for (const int device : among)
    if (need <= 0 || usable_share * static_cast<double>(gpu_of(machine, device).memory_bytes) >= need) devices.push_back(device);
  return devices;
}

std::optional<double> token_us(const Machine& machine, const Model& model, const SizeAdvice& advice) {
  if (model.bytes == 0) return {};
  double slowest = 0;
  for (const int device : advice.devices) {
    const auto rate = memory_gb_per_s(gpu_of(machine, device).name);
    if (!rate) return {};
    slowest = std::max(slowest, static_cast<double>(model.bytes) / advice.size / (*rate * 1e3));
  }
  return slowest + (advice.search ? 2.0 * model.layers * advice.search->groups.front().each_us.front() : 0);
}

SizeAdvice look_at(const Machine& machine, const std::vector<int>& among, int size, const Model& model, std::size_t most) {
  SizeAdvice advice{.size = size, .bytes_per_gpu = need_of(model, size), .obstacle = {}, .search = {}, .devices = {}, .token_us = {}};
  const std::vector<int> devices = large_enough(machine, among, advice.bytes_per_gpu);
  if (model.even_heads && model.heads % size != 0) {
    advice.obstacle = fmt::format("{} heads do not divide by {}", model.heads, size);
  } else if (devices.size() < static_cast<std::size_t>(size)) {
    advice.obstacle = fmt::format("{} a GPU, which {} of {} have", bytes_in_words(advice.bytes_per_gpu), devices.size(), among.size());
  } else if (size == 1) {
    // The one with the fastest memory, where that is known.
    advice.devices = {*std::max_element(devices.begin(), devices.end(), [&](int a, int b) {
      return memory_gb_per_s(gpu_of(machine, a).name).value_or(0) < memory_gb_per_s(gpu_of(machine, b).name).value_or(0);
    })};
  } else {
    advice.search = collectives::search_groups(machine, devices, size, conversation(model), most);
    advice.devices = advice.search->groups.front().devices;
  }
  if (advice.obstacle.empty()) advice.token_us = token_us(machine, model, advice);
  return advice;
}

/// Groups of the GPUs that are left, best first.
std::vector<std::vector<int>> beside(const Machine& machine, const std::vector<int>& among, const SizeAdvice& taken, const Model& model) {
  std::vector<std::vector<int>> groups;
  std::vector<int> left = large_enough(machine, among, taken.bytes_per_gpu);
  std::vector<int> last = taken.devices;
  while (true) {
    std::erase_if(left, [&](int device) { return std::find(last.begin(), last.end(), device) != last.end(); });
    if (taken.size < 2 || left.size() < static_cast<std::size_t>(taken.size)) return groups;
    last = collectives::search_groups(machine, left, taken.size, conversation(model), kinds_for_a_size).groups.front().devices;
    groups.push_back(last);
  }
}

void recommend(Advice& advice) {
  const SizeAdvice* best = nullptr;
  bool timed = true;
  for (const SizeAdvice& size : advice.sizes) timed = timed && (!size.obstacle.empty() || size.token_us);
  for (const SizeAdvice& size : advice.sizes) {
    if (!size.obstacle.empty()) continue;
    if (!best || (timed && *size.token_us < 0.95 * *best->token_us)) best = &size;
  }
  if (!best)
    throw Error(ErrorCode::unsupported,
                fmt::format("no group of these {} GPUs holds {} of weights and cache in {:.0f} % of its memory", advice.sizes.size(),
                            bytes_in_words(advice.sizes[0].bytes_per_gpu), 100 * usable_share));
  advice.taken = static_cast<std::size_t>(best - advice.sizes.data());
  advice.why = timed ? "the fastest token by the model, and no fewer GPUs come within 5 % of it"
                     : "the fewest GPUs that hold the model; a chip's memory rate is not known, so tokens are not timed";
}

}  // namespace

std::vector<collectives::Work> conversation(const Model& model) {
  const auto hidden = static_cast<std::size_t>(model.hidden);
  const double calls = 2.0 * model.layers;
  return {{{.count = hidden, .type = DataType::bfloat16}, calls * reply_tokens},
          {{.count = hidden * prompt_tokens, .type = DataType::bfloat16}, calls}};
}

Advice advise_groups(const Machine& machine, const std::vector<int>& among, int size, const Model& model) {
  Advice advice;
  advice.sizes.push_back(look_at(machine, among, size, model, 16));
  if (!advice.sizes[0].obstacle.empty())
    throw Error(ErrorCode::unsupported, fmt::format("tensor parallel over {}: {}", size, advice.sizes[0].obstacle));
  advice.beside = beside(machine, among, advice.sizes[0], model);
  return advice;
}

Advice advise_size(const Machine& machine, const std::vector<int>& among, const Model& model) {
  Advice advice;
  const int most = std::min(static_cast<int>(among.size()), collectives::max_ranks);
  for (int size = 1; size <= most; ++size) advice.sizes.push_back(look_at(machine, among, size, model, kinds_for_a_size));
  recommend(advice);
  SizeAdvice& taken = advice.sizes[advice.taken];
  if (taken.size > 1) taken = look_at(machine, among, taken.size, model, kinds_shown);
  advice.beside = beside(machine, among, taken, model);
  return advice;
}

EvidenceCount evidence_of(const Machine& machine, const std::vector<int>& devices) {
  EvidenceCount count;
  const auto in_group = [&](int node) {
    return std::find(devices.begin(), devices.end(), machine.nodes[static_cast<std::size_t>(node)].device) != devices.end();
  };
  for (const Peer& peer : machine.peers) {
    if (!in_group(peer.from) || !in_group(peer.to)) continue;
    ++count.links;
    if (!peer.access) continue;
    ++count.direct;
    if (peer.evidence != Evidence::claimed) ++count.proved;
  }
  return count;
}

}  // namespace cli
