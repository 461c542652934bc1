#include "cli/advice_text.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "cli/text.hpp"

namespace cli {
namespace {

using collectives::Group;
using collectives::GroupSearch;
using collectives::Machine;

constexpr std::size_t most_rows = 6;

std::string milliseconds(double us) { return us < 100'000 ? fmt::format("{:.2f} ms", us * 1e-3) : fmt::format("{:.0f} ms", us * 1e-3); }

/// The devices by UUID, or nothing if one has none.
std::string by_uuid(const Machine& machine, const std::vector<int>& devices) {
  std::string out;
  for (const int device : devices)
    for (const int gpu : machine.gpus()) {
      const auto& node = machine.nodes[static_cast<std::size_t>(gpu)];
      if (node.device != device) continue;
      if (node.uuid.empty()) return "";
      out += fmt::format("{}{}", out.empty() ? "" : ",", printable(node.uuid));
    }
  return out;
}

std::string sizes_text(const Advised& advised) {
  std::vector<std::vector<std::string>> rows = {{"size", "a GPU holds", "a token", "its all-reduces", "group, or what is in the way"}};
  for (const SizeAdvice& size : advised.advice.sizes) {
    const bool can = size.obstacle.empty();
    const double reduces = size.search ? 2 * advised.model.layers * size.search->groups.front().each_us.front() : 0;
    rows.push_back({std::to_string(size.size), bytes_in_words(size.bytes_per_gpu),
                    can && size.token_us ? milliseconds(*size.token_us) : "-", can ? milliseconds(reduces) : "-",
                    can ? "GPUs " + visible_devices(size.devices) : size.obstacle});
  }
  return fmt::format(
      "Weights of {} and a cache of {}, in 90 % of each GPU's memory. A token is the time to read its weights once at the data sheet's "
      "rate, and its "
      "all-reduces.\n\n{}\nRecommended: tensor parallel over {}, {}.\n\n",
      bytes_in_words(static_cast<double>(advised.model.bytes)), bytes_in_words(static_cast<double>(advised.model.cache_bytes)),
      aligned(rows, true), advised.advice.sizes[advised.advice.taken].size, advised.advice.why);
}

/// The first group that costs more than the best.
const Group* second_of(const GroupSearch& search) {
  const auto found = std::find_if(search.groups.begin(), search.groups.end(),
                                  [&](const Group& group) { return group.predicted_us > 1.001 * search.groups.front().predicted_us; });
  return found == search.groups.end() ? nullptr : &*found;
}

std::string groups_text(const Advised& advised, const SizeAdvice& taken) {
  const GroupSearch& search = *taken.search;
  const Model& model = advised.model;
  std::string out = fmt::format(
      "{} group{} of {} GPUs, {} kind{} of them, {} planned. Compared by what the all-reduces of {} layers take: {} each for a token, {} "
      "each for a prompt of {} "
      "tokens; all of it for a prompt and {} tokens.\n\n",
      search.looked_at, search.looked_at == 1 ? "" : "s", taken.size, search.kinds, search.kinds == 1 ? "" : "s", search.groups.size(),
      model.layers, bytes_in_words(2.0 * model.hidden), bytes_in_words(2.0 * model.hidden * prompt_tokens), prompt_tokens, reply_tokens);
  std::vector<std::vector<std::string>> rows = {{"GPUs", "a token", "a prompt", "all", "against the best", "alike"}};
  const double best = search.groups.front().predicted_us;
  for (std::size_t i = 0; i < search.groups.size(); ++i) {
    if (i + 1 >= most_rows && i + 1 < search.groups.size()) continue;  // the last is the worst
    const Group& group = search.groups[i];
    rows.push_back({visible_devices(group.devices), milliseconds(2 * model.layers * group.each_us[0]),
                    milliseconds(2 * model.layers * group.each_us[1]), milliseconds(group.predicted_us),
                    fmt::format("{:.2f}x", group.predicted_us / best), std::to_string(group.alike)});
  }
  out += aligned(rows, false) + "\n";
  if (const Group* second = second_of(search)) {
    out += fmt::format("The second best, GPUs {}, costs {:.0f} % more.\n", visible_devices(second->devices),
                       100 * (second->predicted_us / best - 1));
  } else {
    out += search.looked_at == 1 ? "There is no other group.\n" : "No group that was planned costs more: take any of them.\n";
  }
  return out;
}

std::string evidence_text(const Advised& advised, const SizeAdvice& taken) {
  if (taken.size < 2) return "";
  const EvidenceCount count = evidence_of(advised.machine, taken.devices);
  std::string out = fmt::format("This is a recommendation by model. Of the group's {} links {} {} direct", count.links, count.direct,
                                count.direct == 1 ? "is" : "are");
  if (count.direct == 0) return out + ".\n";
  out += count.proved == count.direct ? ", all measured"
         : count.proved == 0          ? ", none of them measured"
                                      : fmt::format(", {} of them measured", count.proved);
  return out + (count.proved == count.direct ? ".\n" : ": `collectives doctor` measures and proves them.\n");
}

std::string engine_text(const Advised& advised, const SizeAdvice& taken) {
  if (!advised.engine) return "";
  const EngineAdvice engine = advice_for(*advised.engine, advised.machine, taken.devices, visible_devices(taken.devices, advised.visible));
  std::string out = fmt::format("\n{}\n", engine.command);
  for (const std::string& reason : engine.reasons) out += fmt::format("  {}\n", reason);
  return out;
}

}  // namespace

std::string advice_text(const Advised& advised) {
  const Advice& advice = advised.advice;
  const SizeAdvice& taken = advice.sizes[advice.taken];
  std::string out = fmt::format("{}\n\n", advised.machine.name.empty() ? "Machine" : printable(advised.machine.name));
  if (!advice.why.empty()) out += sizes_text(advised);
  if (taken.search) out += groups_text(advised, taken);
  out += fmt::format("\nCUDA_VISIBLE_DEVICES={}\n", printable(visible_devices(taken.devices, advised.visible)));
  if (const std::string uuids = by_uuid(advised.machine, taken.devices); !uuids.empty())
    out += fmt::format("CUDA_VISIBLE_DEVICES={}  (the same, in whatever order CUDA counts)\n", uuids);
  for (const auto& group : advice.beside) out += fmt::format("Beside it, for another copy of the model: GPUs {}\n", printable(visible_devices(group, advised.visible)));
  return out + evidence_text(advised, taken) + engine_text(advised, taken);
}

}  // namespace cli
