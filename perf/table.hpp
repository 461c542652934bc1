#pragma once

#include <collectives/plan.hpp>
#include <string>
#include <vector>

#include "perf/measure.hpp"

namespace perf {

/// One side of one line: a result for each contender, ours first.
using Side = std::vector<Result>;

struct Line {
  Shape shape;
  collectives::Collective kind = collectives::Collective::all_reduce;
  int root = -1;  ///< -1: the collective has none
  double bus_factor = 1;
  collectives::Plan plan;
  Side out_of_place;
  Side in_place;
};

/// What stands above the lines, and how wide they are.
struct TableStyle {
  std::vector<std::string> contenders{"ours"};
  bool per_call = false;  ///< -I: max and cv% too
};

/// The operation's name; none where nothing is reduced.
const char* operation_of(const Line& line);

/// GB/s of algorithm bandwidth; 0 without a time.
double algorithm_gb_per_s(const Line& line, const Result& result);

/// nccl-tests' two heading lines with ours to their right, each beginning with # and ending with a newline.
std::string heading(const TableStyle& style);
std::string row(const Line& line, const TableStyle& style);
/// What the communicators of each contender took to come about, one figure a contender.
std::string created(const TableStyle& style, const std::vector<double>& creation_ms);
/// Out of bounds values and average bus bandwidth, as nccl-tests words them.
std::string footer(const std::string& name, std::uint64_t wrong, double average_bus_gb_per_s);

/// A figure in seven characters at most, with as many decimals as fit up to two.
std::string figure(double value);

/// Sums over the lines of a run.
struct Totals {
  std::uint64_t wrong = 0;  ///< of every contender: a comparison with a wrong result is none
  double bus_sum = 0;
  int sides = 0;

  void add(const Line& line);
  double average_bus() const { return sides > 0 ? bus_sum / sides : 0; }
};

}  // namespace perf
