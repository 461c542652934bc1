#include "topology/chips.hpp"

namespace collectives {
namespace {

struct Chip {
  std::string_view name;  ///< a part of the GPU's, see `names`
  int compute_capability;
};

/// The first that fits: what names a generation comes before what two generations share.
constexpr Chip chips[] = {{"Ada Generation", 89},
                          {"RTX PRO ", 120},
                          {"GeForce RTX 50", 120},
                          {"GeForce RTX 40", 89},
                          {"GeForce RTX 30", 86},
                          {"GeForce RTX 20", 75},
                          {"GB200", 100},
                          {"GB300", 103},
                          {"B200", 100},
                          {"B300", 103},
                          {"GH200", 90},
                          {"H200", 90},
                          {"H100", 90},
                          {"H20", 90},
                          {"H800", 90},
                          {"A100", 80},
                          {"A800", 80},
                          {"A30", 80},
                          {"A40", 86},
                          {"A10", 86},
                          {"A10G", 86},
                          {"A16", 86},
                          {"RTX A", 86},
                          {"L40", 89},
                          {"L4", 89},
                          {"L20", 89},
                          {"V100", 70},
                          {"TITAN V", 70},
                          {"TITAN RTX", 75},
                          {"T4", 75},
                          {"P100", 60},
                          {"P40", 61}};

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }

/// Whole words but for what may follow: "A10" is not in "A100" nor in "RTX A1000", and "L40" is in "L40S".
bool names(std::string_view name, std::string_view chip) {
  const bool family = chip.starts_with("GeForce") || !is_digit(chip.back());
  for (auto at = name.find(chip); at != std::string_view::npos; at = name.find(chip, at + 1)) {
    const auto end = at + chip.size();
    const bool begins = at == 0 || !(is_digit(name[at - 1]) || is_letter(name[at - 1]));
    if (begins && (family || end == name.size() || !is_digit(name[end]))) return true;
  }
  return false;
}

}  // namespace

int chip_named(std::string_view name) {
  for (const Chip& chip : chips)
    if (names(name, chip.name)) return chip.compute_capability;
  return 0;
}

}  // namespace collectives
