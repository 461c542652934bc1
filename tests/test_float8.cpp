// The 8-bit floating types against their definition, value by value.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/number.hpp"
#include "test.hpp"

using namespace collectives::kernels;

namespace {

struct Format {
  int exponents, fractions, bias;
  bool has_infinity;
};
constexpr Format e4m3{4, 3, 7, false}, e5m2{5, 2, 15, true};

double defined(Format format, int code) {
  const int fraction = code & ((1 << format.fractions) - 1), exponent = code >> format.fractions & ((1 << format.exponents) - 1);
  const double sign = code & 0x80 ? -1 : 1;
  const int last = (1 << format.exponents) - 1;
  if (format.has_infinity && exponent == last) return fraction == 0 ? sign * INFINITY : NAN;
  if (!format.has_infinity && (code & 0x7f) == 0x7f) return NAN;
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - format.bias - format.fractions);
  return sign * std::ldexp(fraction + (1 << format.fractions), exponent - format.bias - format.fractions);
}

/// The nearest finite value's code, ties to the even code, by looking at all of them.
int nearest(Format format, double value) {
  int best = 0;
  for (int code = 0; code < 0x80; ++code) {
    const double found = defined(format, code);
    if (!std::isfinite(found)) continue;
    const double magnitude = std::min(std::abs(value), 1e6);  // beyond any of them, and not so far that distances round
    const double distance = std::abs(found - magnitude), least = std::abs(defined(format, best) - magnitude);
    if (distance < least || (distance == least && code % 2 == 0)) best = code;
  }
  return best | (std::signbit(value) ? 0x80 : 0);
}

template <typename T, typename Narrow>
void check_format(Format format, Narrow narrow) {
  for (int code = 0; code < 256; ++code) {
    const float widened = to_float(T{static_cast<std::uint8_t>(code)});
    const double wanted = defined(format, code);
    CAPTURE(code, widened, wanted);
    if (std::isnan(wanted)) {
      CHECK(std::isnan(widened));
      CHECK(narrow(widened).bits == 0x7f);
      continue;
    }
    CHECK(static_cast<double>(widened) == wanted);
    CHECK(std::signbit(widened) == ((code & 0x80) != 0));
    if (std::isfinite(wanted)) CHECK(narrow(widened).bits == code);
  }
  const int largest = nearest(format, 1e30);
  CHECK(narrow(std::numeric_limits<float>::infinity()).bits == largest);
  CHECK(narrow(-1e30f).bits == (largest | 0x80));
  // Every value, every midpoint between two, and a hair on both sides.
  for (int code = 0; code + 1 < 0x80; ++code) {
    const double a = defined(format, code), b = defined(format, code + 1);
    if (!std::isfinite(a) || !std::isfinite(b)) continue;
    const auto middle = static_cast<float>((a + b) / 2);
    for (const float value : {middle, std::nextafter(middle, 0.0f), std::nextafter(middle, 1e9f), -middle}) {
      CAPTURE(code, value);
      CHECK(narrow(value).bits == nearest(format, value));
    }
  }
  std::mt19937 random(5);
  for (int trial = 0; trial < 20'000; ++trial) {
    const std::uint32_t bits = random();
    float value;
    std::memcpy(&value, &bits, sizeof value);
    if (std::isnan(value)) continue;
    CAPTURE(value);
    CHECK(narrow(value).bits == nearest(format, value));
  }
}

}  // namespace

TEST_CASE("e4m3 is widened exactly and rounded to nearest even, and saturates", "[exec][float8]") {
  check_format<Float8E4M3>(e4m3, [](float value) { return to_e4m3(value); });
}
TEST_CASE("e5m2 is widened exactly and rounded to nearest even, and saturates", "[exec][float8]") {
  check_format<Float8E5M2>(e5m2, [](float value) { return to_e5m2(value); });
}
