#include "cli/chip_memory.hpp"

#include <utility>

namespace cli {
namespace {

// NVIDIA's data sheets. A name stands before those that it contains.
constexpr std::pair<std::string_view, double> rates[] = {
    {"B200", 8000},
    {"H200 NVL", 4800},
    {"H200", 4800},
    {"H100 NVL", 3900},
    {"H100 PCIe", 2000},
    {"H100", 3350},
    {"A100 80GB PCIe", 1935},
    {"A100-SXM4-80GB", 2039},
    {"A100", 1555},
    {"V100", 900},
    {"L40S", 864},
    {"L40", 864},
    {"L4", 300},
    {"A40", 696},
    {"A10", 600},
    {"RTX PRO 6000 Blackwell Server", 1597},
    {"RTX PRO 6000", 1792},
    {"RTX 6000 Ada", 960},
    {"RTX A6000", 768},
    {"RTX A5000", 768},
    {"RTX A4000", 448},
    {"RTX 5090", 1792},
    {"RTX 5080", 960},
    {"RTX 5070 Ti", 896},
    {"RTX 5060 Ti", 448},
    {"RTX 4090", 1008},
    {"RTX 4080 SUPER", 736},
    {"RTX 4080", 717},
    {"RTX 4070 Ti SUPER", 672},
    {"RTX 4060 Ti", 288},
    {"RTX 3090 Ti", 1008},
    {"RTX 3090", 936},
    {"RTX 3080 Ti", 912},
    {"RTX 3060", 360},
    {"RTX 2080 Ti", 616},
    {"T4", 320},
};

bool is_word_part(char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }

/// As a word of its own: "L4" is not in "L40".
bool holds(std::string_view text, std::string_view name) {
  for (std::size_t at = text.find(name); at != std::string_view::npos; at = text.find(name, at + 1)) {
    const std::size_t end = at + name.size();
    if ((at == 0 || !is_word_part(text[at - 1])) && (end == text.size() || !is_word_part(text[end]))) return true;
  }
  return false;
}

}  // namespace

std::optional<double> memory_gb_per_s(std::string_view gpu_name) {
  for (const auto& [name, rate] : rates)
    if (holds(gpu_name, name)) return rate;
  return {};
}

}  // namespace cli
