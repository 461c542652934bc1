#include "topology/priors.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

namespace collectives {
namespace {

/// One NVLink as stores reach it: 370 GB/s over the 18 of an H200, 274 over the 12 of an A100, 747 over the 18 of a GB200,
/// each measured between two GPUs; the bridges of consumer Ampere run at 14 GB/s a link.
double nvlink_flow_gb_per_s(int compute_capability) {
  if (compute_capability >= 100) return 41.5;
  if (compute_capability >= 90) return 370.0 / 18;
  if (compute_capability == 86) return 12.6;
  if (compute_capability >= 80) return 22.8;
  return 20;
}

}  // namespace

int nvlinks_of(std::string_view path) {
  if (!path.starts_with("NV")) return 0;
  int links = 0;
  const auto [end, error] = std::from_chars(path.data() + 2, path.data() + path.size(), links);
  return error == std::errc{} && end == path.data() + path.size() && links > 0 ? links : 0;
}

int nvlinks_per_gpu(int compute_capability) {
  if (compute_capability >= 90) return 18;
  if (compute_capability == 86) return 4;
  if (compute_capability >= 80) return 12;
  if (compute_capability >= 70) return 6;
  if (compute_capability >= 60) return 4;
  return 0;
}

double nvlink_line_gb_per_s(unsigned version, int compute_capability) {
  // GA102 reports the version of GA100 and runs its links at little more than half the rate.
  if (compute_capability == 86) return 14.0625;
  if (version == 1) return 20;
  // Some drivers give Hopper the code of NVLink 5.
  if (version >= 7 && compute_capability != 90) return 50;
  return 25;
}

double nvlink_line_gb_per_s(int compute_capability) {
  // The codes of NVLink 5, 2 and 1.
  const unsigned version = compute_capability >= 100 ? 7 : compute_capability >= 70 || compute_capability == 0 ? 2 : 1;
  return nvlink_line_gb_per_s(version, compute_capability);
}

unsigned pcie_generation(std::string_view speed) {
  constexpr struct {
    std::string_view digits;
    unsigned generation;
  } speeds[] = {{"2.5", 1}, {"5", 2}, {"8", 3}, {"16", 4}, {"32", 5}, {"64", 6}};
  std::string_view number = speed.substr(0, speed.find(' '));
  if (const auto unit = number.find('G'); unit != std::string_view::npos) number = number.substr(0, unit);
  if (number.ends_with(".0")) number.remove_suffix(2);
  for (const auto& known : speeds)
    if (number == known.digits) return known.generation;
  return 0;
}

double slot_gb_per_s(unsigned generation, unsigned width) {
  if (generation == 0 || width == 0) return 0;
  // Lane rates after line coding, times what was measured of them: 0.80 of Gen3, 0.83 of Gen4, 0.89 of Gen5.
  constexpr double lane[] = {0, 0.25 * 0.8, 0.5 * 0.8, 0.985 * 0.8, 1.969 * 0.83, 3.938 * 0.89, 7.563 * 0.89};
  return lane[std::min<std::size_t>(generation, std::size(lane) - 1)] * width;
}

double usual_slot_gb_per_s(int compute_capability) {
  if (compute_capability >= 90) return slot_gb_per_s(5, 16);
  if (compute_capability >= 80 || compute_capability == 0) return slot_gb_per_s(4, 16);
  return slot_gb_per_s(3, 16);
}

bool crosses_root(std::string_view path) { return path != "PIX" && path != "PXB" && nvlinks_of(path) == 0; }

Rate direct_rate(std::string_view path, int compute_capability, double slot) {
  if (const int links = nvlinks_of(path); links > 0) return {links * nvlink_flow_gb_per_s(compute_capability), 0.7};
  if (path == "PIX") return {slot, 0.7};
  if (path == "PXB") return {slot, 0.75};
  if (path == "PHB") return {slot, 1.1};
  if (path == "NODE") return {slot, 1.2};
  // Across sockets, or unknown: between 39 and 51 of 56 GB/s on two generations of EPYC.
  return {socket_slots * slot, 1.4};
}

Rate staged_rate(double slot) { return {0.75 * slot, 2.0}; }

std::uint32_t thousandths(double value) {
  constexpr double greatest = std::numeric_limits<std::uint32_t>::max();
  return static_cast<std::uint32_t>(std::llround(std::clamp(value * 1000, 1.0, greatest)));
}

}  // namespace collectives
