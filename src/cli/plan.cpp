#include <fmt/format.h>

#include <algorithm>
#include <collectives/error.hpp>
#include <collectives/plan.hpp>

#include "cli/command.hpp"
#include "cli/options.hpp"
#include "cli/plan_text.hpp"

namespace cli {
namespace {

using collectives::Collective;
using collectives::Error;
using collectives::ErrorCode;
using collectives::PlanRequest;

struct PlanOptions {
  CommonOptions common;
  std::string ranks, bytes, type = "bf16", op = "sum", collective = "all_reduce", svg;
  int root = 0;
  bool schedule = false;
};

/// Elements of the message, or of one rank's block of it.
PlanRequest request_of(const PlanOptions& options, std::size_t ranks) {
  PlanRequest request;
  request.collective = parse_collective(options.collective);
  request.type = parse_type(options.type);
  request.op = parse_op(options.op);
  request.root = options.root;
  const bool blocks = request.collective != Collective::all_reduce && request.collective != Collective::broadcast &&
                      request.collective != Collective::reduce;
  const std::size_t unit = size_of(request.type) * (blocks ? ranks : 1), bytes = parse_bytes(options.bytes);
  if (bytes < unit)
    throw Error(ErrorCode::invalid_argument, fmt::format("--bytes {}: expected at least {}, an element of {}{}", options.bytes, unit,
                                                         name_of(request.type), blocks ? " a rank" : ""));
  request.count = bytes / unit;
  return request;
}

}  // namespace

Exit run_plan(const Words& words, std::ostream& out) {
  CLI::App app("What a call would do on a machine, every way it could be done, and why one is taken", "collectives plan");
  PlanOptions options;
  add_common_options(app, options.common);
  app.add_option("--ranks", options.ranks, "GPUs (CUDA ordinals) of ranks 0, 1, ...; default: all")->type_name("0,1,2");
  app.add_option("--bytes", options.bytes, "of the whole message, as nccl-tests counts them, with K, M or G")->type_name("SIZE");
  app.add_option("--type", options.type, "bf16, fp16, fp32, int8 ...")->capture_default_str();
  app.add_option("--op", options.op, "sum, prod, min, max, avg")->capture_default_str();
  app.add_option("--collective", options.collective, "all_reduce, all_gather, reduce_scatter, broadcast ...")->capture_default_str();
  app.add_option("--root", options.root, "rank, where the collective has one")->capture_default_str();
  app.add_flag("--schedule", options.schedule, "who sends what when");
  app.add_option("--svg", options.svg, "draw the channels over the machine into this file, by Graphviz's dot")->type_name("FILE");
  app.footer("Every time is the model's prediction; nothing is measured.");
  if (!parse(app, words, out)) return Exit::healthy;
  if (options.bytes.empty()) throw Error(ErrorCode::invalid_argument, "expected --bytes SIZE, such as 16K or 64M");

  const auto machine = machine_of(options.common);
  const std::vector<int> devices = options.ranks.empty() ? devices_of(machine, 2) : parse_devices(options.ranks);
  require_devices(machine, devices);
  PlannedCall call{.machine = machine.name, .devices = devices, .request = request_of(options, devices.size()), .report = {}};
  call.report = collectives::plan_call(machine, devices, call.request);
  if (!options.svg.empty()) write_svg(to_dot(machine, arrows_of(call)), options.svg);
  if (options.common.json) {
    out << plan_json(call, options.schedule);
  } else {
    out << plan_text(call) << (options.schedule ? schedule_text(call) : "");
  }
  return Exit::healthy;
}

}  // namespace cli
