#include "planner/timings.hpp"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/require.hpp"

namespace collectives {
namespace {

using Json = nlohmann::json;

constexpr int text_format = 1;
constexpr std::size_t most_plans = 1024, most_sizes = 256;
constexpr std::uint64_t longest_ns = 1'000'000'000'000, largest_bytes = std::uint64_t{1} << 48;

double ratio_of(const TimedSize& size) { return static_cast<double>(size.measured_ns) / static_cast<double>(size.modelled_ns); }

std::uint64_t whole(const Json& json, std::uint64_t least, std::uint64_t most) {
  require(json.is_number_unsigned() && json.get<std::uint64_t>() >= least && json.get<std::uint64_t>() <= most,
          "a table of timings has a figure that is none");
  return json.get<std::uint64_t>();
}

TimedPlan plan_from(const Json& json) {
  require(json.is_array() && json.size() == 7 && json[6].is_array() && !json[6].empty() && json[6].size() <= most_sizes, "a table of timings has a row that is none");
  TimedPlan plan;
  plan.kind.collective = static_cast<Collective>(whole(json[0], 0, collective_count - 1));
  plan.kind.direct = whole(json[1], 0, 1) != 0;
  plan.kind.sentinel = whole(json[2], 0, 1) != 0;
  plan.choice.algorithm = static_cast<Algorithm>(whole(json[3], 0, algorithm_count - 1));
  plan.choice.arity = static_cast<int>(whole(json[4], 1, 15));
  plan.through_host = whole(json[5], 0, 1) != 0;
  for (const Json& size : json[6]) {
    require(size.is_array() && size.size() == 3, "a table of timings has a size that is none");
    plan.sizes.push_back({whole(size[0], 1, largest_bytes), whole(size[1], 1, longest_ns), whole(size[2], 1, longest_ns)});
    const std::size_t count = plan.sizes.size();
    require(count < 2 || plan.sizes[count - 2].bytes < plan.sizes[count - 1].bytes, "a table of timings has sizes out of order");
  }
  return plan;
}

}  // namespace

double TimedPlan::correction(std::size_t bytes) const {
  const auto above = std::find_if(sizes.begin(), sizes.end(), [&](const TimedSize& size) { return size.bytes >= bytes; });
  if (above == sizes.end()) return ratio_of(sizes.back());
  if (above == sizes.begin() || above->bytes == bytes) return ratio_of(*above);
  const TimedSize &low = above[-1], &high = *above;
  const double part = std::log(static_cast<double>(bytes) / static_cast<double>(low.bytes)) / std::log(static_cast<double>(high.bytes) / static_cast<double>(low.bytes));
  return ratio_of(low) * std::pow(ratio_of(high) / ratio_of(low), part);
}

const TimedSize* TimedPlan::at(std::size_t bytes) const {
  const auto found = std::find_if(sizes.begin(), sizes.end(), [&](const TimedSize& size) { return size.bytes == bytes; });
  return found == sizes.end() ? nullptr : &*found;
}

const TimedPlan* Timings::find(CallKind kind, AlgorithmChoice choice, bool through_host) const {
  const auto found = std::find_if(plans.begin(), plans.end(), [&](const TimedPlan& plan) { return plan.choice == choice && plan.through_host == through_host && plan.kind == kind; });
  return found == plans.end() ? nullptr : &*found;
}

void Timings::record(CallKind kind, AlgorithmChoice choice, bool through_host, TimedSize size) {
  size.measured_ns = std::clamp<std::uint64_t>(size.measured_ns, 1, longest_ns);
  size.modelled_ns = std::clamp<std::uint64_t>(size.modelled_ns, 1, longest_ns);
  auto* plan = const_cast<TimedPlan*>(find(kind, choice, through_host));
  if (plan == nullptr) plan = &plans.emplace_back(TimedPlan{kind, choice, through_host, {}});
  const auto at = std::find_if(plan->sizes.begin(), plan->sizes.end(), [&](const TimedSize& other) { return other.bytes >= size.bytes; });
  if (at != plan->sizes.end() && at->bytes == size.bytes)
    *at = size;
  else
    plan->sizes.insert(at, size);
}

std::vector<std::size_t> Timings::sizes_of(CallKind kind) const {
  std::vector<std::size_t> sizes;
  for (const TimedPlan& plan : plans)
    for (const TimedSize& size : plan.sizes)
      if (plan.kind == kind) sizes.push_back(size.bytes);
  std::sort(sizes.begin(), sizes.end());
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  return sizes;
}

std::string to_text(const Timings& timings) {
  Json plans = Json::array();
  for (const TimedPlan& plan : timings.plans) {
    Json sizes = Json::array();
    for (const TimedSize& size : plan.sizes) sizes.push_back({size.bytes, size.measured_ns, size.modelled_ns});
    plans.push_back({static_cast<int>(plan.kind.collective), int{plan.kind.direct}, int{plan.kind.sentinel}, static_cast<int>(plan.choice.algorithm), plan.choice.arity,
                     int{plan.through_host}, sizes});
  }
  return Json{{"format", text_format}, {"taken_at", timings.taken_at}, {"plans", plans}}.dump();
}

Timings timings_from_text(std::string_view text) {
  const Json json = Json::parse(text, nullptr, false);
  require(json.is_object() && json.contains("format") && json.contains("taken_at") && json.contains("plans"), "the text is no table of timings");
  (void)whole(json["format"], text_format, text_format);
  const Json& plans = json["plans"];
  require(plans.is_array() && plans.size() <= most_plans, "the text is no table of timings");
  Timings timings{.taken_at = static_cast<std::int64_t>(whole(json["taken_at"], 0, largest_bytes)), .plans = {}};
  for (const Json& row : plans) {
    TimedPlan plan = plan_from(row);
    require(timings.find(plan.kind, plan.choice, plan.through_host) == nullptr, "a table of timings has a row twice");
    timings.plans.push_back(std::move(plan));
  }
  return timings;
}

}  // namespace collectives
