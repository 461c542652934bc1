#include "perf/table.hpp"

#include <fmt/format.h>

namespace perf {
namespace {

std::string side_cells(const Line& line, const Result& result) {
  const double algorithm = algorithm_gb_per_s(line, result);
  return fmt::format("  {:>7}  {:>6}  {:>6}  {:>6}", figure(result.time_us.median), figure(algorithm), figure(algorithm * line.bus_factor),
                     result.checked ? std::to_string(result.wrong) : "N/A");
}

std::string spread_cells(const Result& result, bool per_call) {
  const Summary& time = result.time_us;
  std::string text = fmt::format("  {:>7}  {:>7}  {:>7}", figure(time.min), figure(time.median), figure(time.p99));
  if (per_call) text += fmt::format("  {:>7}  {:>6}", figure(time.max), figure(time.variation * 100));
  return text;
}

std::string spread_heading(bool per_call) {
  std::string text = fmt::format("  {:>7}  {:>7}  {:>7}", "min", "median", "p99");
  if (per_call) text += fmt::format("  {:>7}  {:>6}", "max", "cv%");
  return text;
}

std::string compare_cells(const Result& ours, const Result& theirs) {
  const double ratio = ours.time_us.median > 0 ? theirs.time_us.median / ours.time_us.median : 0;
  return fmt::format("  {:>7}  {:>6}  {:>6}", figure(theirs.time_us.median), fmt::format("{:.2f}", ratio),
                     theirs.checked ? std::to_string(theirs.wrong) : "N/A");
}

/// A title over cells that take `width` characters.
std::string over(const std::string& title, std::size_t width) { return fmt::format("{:^{}}", title, width); }

}  // namespace

const char* operation_of(const Line& line) { return collectives::reduces(line.kind) ? name_of(line.shape.op) : "none"; }

double algorithm_gb_per_s(const Line& line, const Result& result) {
  return result.time_us.median > 0 ? static_cast<double>(line.shape.bytes()) / result.time_us.median / 1000 : 0;
}

std::string figure(double value) {
  if (value < 9999.995) return fmt::format("{:.2f}", value);
  if (value < 99999.95) return fmt::format("{:.1f}", value);
  if (value < 9999999.5) return fmt::format("{:.0f}", value);
  return fmt::format("{:.1e}", value);
}

std::string heading(const TableStyle& style) {
  const std::string spread = spread_heading(style.per_call);
  std::string first = fmt::format("#{:51}{}{}", "", over("out-of-place", 33), over("in-place", 33));
  std::string second = fmt::format("#{:>11}  {:>12}  {:>8}  {:>6}  {:>6}", "size", "count", "type", "redop", "root");
  std::string third = fmt::format("#{:>11}  {:>12}  {:>8}  {:>6}  {:>6}", "(B)", "(elements)", "", "", "");
  for (int side = 0; side < 2; ++side) {
    second += fmt::format("  {:>7}  {:>6}  {:>6}  {:>6}", "time", "algbw", "busbw", "#wrong");
    third += fmt::format("  {:>7}  {:>6}  {:>6}  {:>6}", "(us)", "(GB/s)", "(GB/s)", "");
  }
  const std::string plan = fmt::format("  {:<15}  {:<8}  {:>6}  {:>9}", "algorithm", "wire", "blocks", "predicted");
  first += over("plan", plan.size());
  second += plan;
  third += fmt::format("{:>{}}", "(us)", plan.size());
  const std::size_t host_width = 9;
  for (const char* side : {"out-of-place (us)", "in-place (us)"}) {
    first += over(side, spread.size() + host_width);
    second += spread + fmt::format("  {:>7}", "host");
    third += std::string(spread.size() + host_width, ' ');
  }
  for (std::size_t c = 1; c < style.contenders.size(); ++c)
    for (const char* side : {"out-of-place", "in-place"}) {
      const std::string cells = fmt::format("  {:>7}  {:>6}  {:>6}", "time", "ratio", "#wrong");
      first += over(fmt::format(" {} {}", style.contenders[c], side), cells.size());
      second += cells;
      third += fmt::format("  {:>7}  {:>6}  {:>6}", "(us)", "/ours", "");
    }
  return first + "\n" + second + "\n" + third + "\n";
}

std::string row(const Line& line, const TableStyle& style) {
  const Result& out = line.out_of_place.at(0);
  const Result& in = line.in_place.at(0);
  std::string text = fmt::format("{:>12}  {:>12}  {:>8}  {:>6}  {:>6}", line.shape.bytes(), line.shape.count, name_of(line.shape.type),
                                 operation_of(line), line.root);
  text += side_cells(line, out) + side_cells(line, in);
  text += fmt::format("  {:<15}  {:<8}  {:>6}  {:>9}", to_string(line.plan.choice), name_of(line.plan.wire), line.plan.blocks * line.plan.crews,
                      figure(line.plan.predicted_us));
  text += spread_cells(out, style.per_call) + fmt::format("  {:>7}", figure(out.host_us));
  text += spread_cells(in, style.per_call) + fmt::format("  {:>7}", figure(in.host_us));
  for (std::size_t c = 1; c < style.contenders.size(); ++c)
    text += compare_cells(out, line.out_of_place.at(c)) + compare_cells(in, line.in_place.at(c));
  return text + "\n";
}

std::string created(const TableStyle& style, const std::vector<double>& creation_ms) {
  std::string text;
  for (std::size_t c = 0; c < style.contenders.size(); ++c)
    text += fmt::format("{}{} {:.0f} ms", c == 0 ? "" : ", ", style.contenders[c], creation_ms.at(c));
  return fmt::format("# Communicators created in: {}\n", text);
}

std::string footer(const std::string& name, std::uint64_t wrong, double average_bus_gb_per_s) {
  return fmt::format("# Out of bounds values : {} {}\n# Avg bus bandwidth    : {:g} \n#\n# Collective test concluded: {}\n", wrong,
                     wrong == 0 ? "OK" : "FAILED", average_bus_gb_per_s, name);
}

void Totals::add(const Line& line) {
  for (const Side* side : {&line.out_of_place, &line.in_place}) {
    for (const Result& result : *side) wrong += result.wrong;
    if (side->at(0).time_us.median == 0) continue;  // there is no such side
    bus_sum += algorithm_gb_per_s(line, side->at(0)) * line.bus_factor;
    ++sides;
  }
}

}  // namespace perf
