#include <nlohmann/json.hpp>

#include "cli/advice_text.hpp"

namespace cli {
namespace {

using collectives::Group;
using nlohmann::ordered_json;

ordered_json size_json(const SizeAdvice& size) {
  ordered_json json = {{"size", size.size}, {"possible", size.obstacle.empty()}};
  if (size.bytes_per_gpu > 0) json["bytes_per_gpu"] = size.bytes_per_gpu;
  if (!size.obstacle.empty()) {
    json["obstacle"] = size.obstacle;
    return json;
  }
  json["devices"] = size.devices;
  if (size.token_us) json["token_us"] = *size.token_us;
  if (!size.search) return json;
  json.update({{"looked_at", size.search->looked_at}, {"kinds", size.search->kinds}, {"groups", ordered_json::array()}});
  for (const Group& group : size.search->groups)
    json["groups"].push_back({{"devices", group.devices},
                              {"predicted_us", group.predicted_us},
                              {"token_call_us", group.each_us[0]},
                              {"prompt_call_us", group.each_us[1]},
                              {"alike", group.alike}});
  return json;
}

}  // namespace

std::string advice_json(const Advised& advised) {
  const Advice& advice = advised.advice;
  const SizeAdvice& taken = advice.sizes[advice.taken];
  const EvidenceCount evidence = evidence_of(advised.machine, taken.devices);
  ordered_json json = {
      {"machine", advised.machine.name}, {"size", taken.size},
      {"devices", taken.devices},        {"cuda_visible_devices", visible_devices(taken.devices, advised.visible)},
      {"beside", advice.beside},         {"links", {{"all", evidence.links}, {"direct", evidence.direct}, {"measured", evidence.proved}}},
      {"sizes", ordered_json::array()}};
  if (!advice.why.empty()) json["why"] = advice.why;
  for (const SizeAdvice& size : advice.sizes) json["sizes"].push_back(size_json(size));
  if (advised.engine) {
    const EngineAdvice engine = advice_for(*advised.engine, advised.machine, taken.devices, visible_devices(taken.devices, advised.visible));
    json["engine"] = {{"command", engine.command}, {"reasons", engine.reasons}};
  }
  return json.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace cli
