#include "perf/beside_report.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "perf/table.hpp"

namespace perf {
namespace {

using nlohmann::ordered_json;

double tflop_per_s(const ProductShape& shape, double us) { return us > 0 ? shape.flops() / us / 1e6 : 0; }

ordered_json json_of(const Summary& summary) {
  return {{"min", summary.min}, {"median", summary.median}, {"p99", summary.p99}, {"max", summary.max}};
}

}  // namespace

std::string heading(const BesideRun& run) {
  std::string text;
  for (const std::string& place : run.places) text += fmt::format("# {}\n", place);
  text += fmt::format("# products of {}x{}x{} in bf16, {} in a row; bf16 sums beside them{}{}\n", run.product.rows, run.product.columns,
                      run.product.depth, run.in_a_row, run.urgent ? ", on streams of the greatest priority" : "",
                      run.nccl_version.empty() ? "" : "; NCCL " + run.nccl_version);
  text += fmt::format("#{:>10}  {:<17} {:<25} {:>9} {:>9} {:>9} {:>9} {:>7} {:>9} {:>9} {:>6}\n", "size", "all-reduce", "plan", "time",
                      "beside", "TFLOP/s", "beside", "ratio", "ended", "cost", "#wrong");
  text += fmt::format("#{:>10}  {:<17} {:<25} {:>9} {:>9} {:>9} {:>9} {:>7} {:>9} {:>9} {:>6}\n", "(B)", "", "", "(us)", "(us)", "alone",
                      "", "", "a product", "(us)", "");
  return text;
}

std::string row(const BesideRun& run, const BesideLine& line) {
  const BesideResult& r = line.result;
  const double alone = tflop_per_s(run.product, r.product_us.median), beside = tflop_per_s(run.product, r.product_beside_us.median);
  return fmt::format("{:>11}  {:<17} {:<25} {:>9} {:>9} {:>9.1f} {:>9.1f} {:>7.3f} {:>9.2f} {:>9.1f} {:>6}\n", line.bytes, line.contender,
                     line.plan, figure(r.call_us.median), figure(r.call_beside_us.median), alone, beside, alone > 0 ? beside / alone : 0,
                     r.calls_a_product.median, r.cost_us.median, r.wrong);
}

std::string to_json(const BesideRun& run, const std::vector<BesideLine>& lines) {
  ordered_json json = {
      {"places", run.places},          {"ranks", run.ranks},   {"product", {run.product.rows, run.product.columns, run.product.depth}},
      {"in_a_row", run.in_a_row},      {"urgent", run.urgent}, {"nccl", run.nccl_version},
      {"lines", ordered_json::array()}};
  for (const BesideLine& line : lines) {
    const BesideResult& r = line.result;
    json["lines"].push_back({{"bytes", line.bytes},
                             {"contender", line.contender},
                             {"plan", line.plan},
                             {"call_us", json_of(r.call_us)},
                             {"call_beside_us", json_of(r.call_beside_us)},
                             {"product_us", json_of(r.product_us)},
                             {"product_beside_us", json_of(r.product_beside_us)},
                             {"calls_a_product", json_of(r.calls_a_product)},
                             {"cost_us", json_of(r.cost_us)},
                             {"wrong", r.wrong}});
  }
  return json.dump(1) + "\n";
}

}  // namespace perf
