#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "kernels/number.hpp"
#include "planner/schedule.hpp"
#include "test.hpp"
#include "trial.hpp"

using namespace collectives;
using kernels::BFloat16;
using kernels::Half;

namespace {

/// What the bounds need to know of a floating type.
template <typename T>
struct Format;
template <>
struct Format<float> {
  static constexpr DataType type = DataType::float32;
  static constexpr double unit = 0x1p-24, subnormal = 0x1p-149;
  static float from(double value) { return static_cast<float>(value); }
  static double to(float value) { return value; }
};
template <>
struct Format<double> {
  static constexpr DataType type = DataType::float64;
  static constexpr double unit = 0x1p-53, subnormal = 0x1p-1074;
  static double from(double value) { return value; }
  static double to(double value) { return value; }
};
template <>
struct Format<Half> {
  static constexpr DataType type = DataType::float16;
  static constexpr double unit = 0x1p-11, subnormal = 0x1p-24;
  static Half from(double value) { return kernels::to_half(static_cast<float>(value)); }
  static double to(Half value) { return kernels::to_float(value); }
};
template <>
struct Format<BFloat16> {
  static constexpr DataType type = DataType::bfloat16;
  static constexpr double unit = 0x1p-8, subnormal = 0x1p-133;
  static BFloat16 from(double value) { return kernels::to_bfloat16(static_cast<float>(value)); }
  static double to(BFloat16 value) { return kernels::to_float(value); }
};

template <typename T>
using Accumulator = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <typename T>
using Vectors = std::vector<std::vector<T>>;  // by rank

/// One all-reduce of arbitrary bits; offset is the elements by which the buffers miss a pack's alignment.
template <typename T>
Vectors<T> reduce(Ranks& ranks, const Vectors<T>& inputs, DataType type, ReduceOp op, bool in_place, std::size_t offset) {
  const std::size_t count = inputs[0].size();
  for (int rank = 0; rank < ranks.size(); ++rank) {
    const auto r = static_cast<std::size_t>(rank);
    T* out = reinterpret_cast<T*>(ranks.out[r].data()) + offset;
    T* in = in_place ? out : reinterpret_cast<T*>(ranks.in[r].data()) + offset;
    std::memcpy(in, inputs[r].data(), count * sizeof(T));
    ranks.communicators[r].all_reduce({in, count, type}, {out, count, type}, op);
  }
  Vectors<T> outputs;
  for (int rank = 0; rank < ranks.size(); ++rank) {
    const auto r = static_cast<std::size_t>(rank);
    ranks.communicators[r].synchronize();
    const T* out = reinterpret_cast<const T*>(ranks.out[r].data()) + offset;
    outputs.emplace_back(out, out + count);
  }
  return outputs;
}

template <typename T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

Options forced(AlgorithmChoice choice, Wire wire, int ranks) {
  Options options;
  options.pool_bytes = static_cast<std::size_t>(ranks) << 21;  // small: filling a pool takes longer than the calls here
  options.backend = Backend::host;
  options.algorithm = choice;
  options.wire = wire;
  options.timeout_ms = 20'000;
  options.first_epoch = 0xfffffff0u;
  return options;
}

const std::vector<AlgorithmChoice> algorithms = {{Algorithm::one_shot, 2},  {Algorithm::two_shot, 2},  {Algorithm::ring, 2},         {Algorithm::binary_tree, 2},
                                                 {Algorithm::kary_tree, 3}, {Algorithm::kary_tree, 1}, {Algorithm::balanced_tree, 2}};

/// Values over several magnitudes, a quarter of which cancel against the rank before.
template <typename T>
Vectors<T> random_inputs(int ranks, std::size_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> mantissa(-2, 2);
  std::uniform_int_distribution<int> exponent(-9, 8);
  Vectors<T> inputs(static_cast<std::size_t>(ranks), std::vector<T>(count));
  for (std::size_t i = 0; i < count; ++i)
    for (std::size_t rank = 0; rank < inputs.size(); ++rank) {
      const bool cancels = rank > 0 && random() % 4 == 0;
      inputs[rank][i] = Format<T>::from(cancels ? -Format<T>::to(inputs[rank - 1][i]) : std::ldexp(mantissa(random), exponent(random)));
    }
  return inputs;
}

/// Of one element: the reference and how far a result may be from it.
struct Bound {
  long double sum = 0;
  long double magnitude = 0;
  long double allowed = 0;
};

/// An operand is rounded to T once in each round that reduces, and takes part in at most ranks-1 additions of the accumulator.
int roundings_of(AlgorithmChoice choice, int ranks) {
  int rounds = 0;
  for (const auto& round : build_schedule(choice, ranks).rounds)
    rounds += std::any_of(round.begin(), round.end(), [](const Transfer& transfer) { return transfer.action == Action::reduce; });
  return rounds;
}

template <typename T>
Bound bound_of(const Vectors<T>& inputs, std::size_t i, ReduceOp op, int roundings, bool direct) {
  Bound bound;
  for (const auto& input : inputs) {
    const double value = Format<T>::to(input[i]);
    bound.sum += value;
    bound.magnitude += std::fabs(value);
  }
  const auto n = static_cast<long double>(inputs.size());
  const long double unit = Format<T>::unit, step = sizeof(T) == 8 ? 0x1p-53L : 0x1p-24L, half_subnormal = Format<T>::subnormal / 2;
  const long double additions = n - 1 + (op == ReduceOp::avg ? 1 : 0);  // the division rounds like one more
  const long double gamma = additions * step / (1 - additions * step);
  if (op == ReduceOp::avg) {
    bound.sum /= n;
    bound.magnitude /= n;
  }
  if (direct && sizeof(T) >= 4) {
    bound.allowed = gamma * bound.magnitude + half_subnormal;  // the accumulator is the result: no rounding beside its own
  } else if (direct) {
    bound.allowed = unit * std::fabs(bound.sum) + (1 + unit) * gamma * bound.magnitude + half_subnormal;
  } else if (sizeof(T) >= 4) {
    bound.allowed = gamma * bound.magnitude + half_subnormal;
  } else {
    bound.allowed = (std::pow(1 + unit, static_cast<long double>(roundings)) * (1 + gamma) - 1) * bound.magnitude + roundings * half_subnormal;
  }
  return bound;
}

/// What the direct algorithms promise to the last bit.
template <typename T>
T in_rank_order(const Vectors<T>& inputs, std::size_t i, ReduceOp op) {
  using A = Accumulator<T>;
  volatile A sum = static_cast<A>(Format<T>::to(inputs[0][i]));
  for (std::size_t rank = 1; rank < inputs.size(); ++rank) sum = sum + static_cast<A>(Format<T>::to(inputs[rank][i]));
  if (op == ReduceOp::avg) sum = sum / static_cast<A>(inputs.size());
  if constexpr (std::is_same_v<T, A>) return sum;
  else return Format<T>::from(sum);
}

struct Tally {
  std::size_t elements = 0, beyond_bound = 0, other_bits = 0, torn = 0, unrepeated = 0;
  long double worst = 0;
};

template <typename T>
void try_random(Ranks& ranks, AlgorithmChoice choice, std::size_t count, std::uint64_t seed, Tally& tally) {
  const bool direct = choice.algorithm == Algorithm::one_shot || choice.algorithm == Algorithm::two_shot;
  const ReduceOp op = seed % 3 == 0 ? ReduceOp::avg : ReduceOp::sum;
  const int roundings = roundings_of(choice, ranks.size());
  const auto inputs = random_inputs<T>(ranks.size(), count, seed);
  const auto outputs = reduce(ranks, inputs, Format<T>::type, op, seed % 2 == 0, seed % 5);
  for (const auto& output : outputs) tally.torn += !same_bits(output, outputs[0]);
  // Again from other places: the bits depend on neither.
  const auto again = reduce(ranks, inputs, Format<T>::type, op, seed % 2 != 0, (seed + 1) % 3);
  tally.unrepeated += !same_bits(again.back(), outputs[0]);
  for (std::size_t i = 0; i < count; ++i) {
    const Bound bound = bound_of(inputs, i, op, roundings, direct);
    const long double error = std::fabs(Format<T>::to(outputs[0][i]) - bound.sum);
    tally.beyond_bound += !(error <= bound.allowed);
    if (bound.allowed > 0) tally.worst = std::max(tally.worst, error / bound.allowed);
    if (!direct) continue;
    const T expected = in_rank_order(inputs, i, op);
    tally.other_bits += std::memcmp(&expected, &outputs[0][i], sizeof(T)) != 0;
  }
  tally.elements += count;
}

}  // namespace

TEMPLATE_TEST_CASE("random sums are within the derived bound, the same on every rank and every run", "[comm][host][numeric][heavy]", float, double, Half, BFloat16) {
  const auto wire = GENERATE(Wire::flagged, Wire::sentinel);
  Tally tally;
  std::uint64_t seed = 0;
  for (const AlgorithmChoice choice : algorithms)
    for (const int size : {2, 3, 4, 7, 8, 16}) {
      Ranks ranks(counted(size), forced(choice, wire, size), 256 << 10);
      for (const std::size_t count : {1, 3, 8, 63, 1031, 4099}) {
        CAPTURE(to_string(choice), size, count, seed);
        const auto before = tally.beyond_bound + tally.other_bits + tally.torn + tally.unrepeated;
        try_random<TestType>(ranks, choice, count, ++seed, tally);
        if (tally.beyond_bound + tally.other_bits + tally.torn + tally.unrepeated != before) CHECK(false);
      }
    }
  WARN(fmt::format("{} over {}: {} elements, {} beyond the bound, {} not in rank order, {} ranks apart, {} runs apart; the worst used {:.2f} of its bound", name_of(Format<TestType>::type),
                   name_of(wire), tally.elements, tally.beyond_bound, tally.other_bits, tally.torn, tally.unrepeated, static_cast<double>(tally.worst)));
  CHECK(tally.beyond_bound + tally.other_bits + tally.torn + tally.unrepeated == 0);
}

TEST_CASE("a row's bits do not depend on the size of the message it is in, with direct algorithms", "[comm][host][numeric][heavy]") {
  const auto choice = GENERATE(AlgorithmChoice{Algorithm::one_shot}, AlgorithmChoice{Algorithm::two_shot});
  Options options = forced(choice, Wire::sentinel, 4);
  Ranks ranks(counted(4), options, 4 << 20);
  const auto inputs = random_inputs<BFloat16>(4, 1 << 20, 99);
  const auto whole = reduce(ranks, inputs, DataType::bfloat16, ReduceOp::sum, false, 0);
  for (const std::size_t count : {1, 7, 1031, 65'537}) {
    Vectors<BFloat16> row;
    const std::size_t begin = 3 * count + 1;
    for (const auto& input : inputs) row.emplace_back(input.begin() + static_cast<std::ptrdiff_t>(begin), input.begin() + static_cast<std::ptrdiff_t>(begin + count));
    const auto alone = reduce(ranks, row, DataType::bfloat16, ReduceOp::sum, true, 1);
    for (const auto& output : alone) CHECK(std::memcmp(output.data(), whole[0].data() + begin, count * sizeof(BFloat16)) == 0);
  }
}

namespace {

template <typename T>
using Bits = std::conditional_t<sizeof(T) == 8, std::uint64_t, std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint16_t>>;

/// Zeros, subnormals, extremes, infinities, and NaNs: quiet, signalling, of both signs, all ones and those next to it.
template <typename T>
std::vector<Bits<T>> special_bits() {
  using B = Bits<T>;
  const int mantissa = sizeof(T) == 8 ? 52 : sizeof(T) == 4 ? 23 : std::is_same_v<T, Half> ? 10 : 7;
  const B sign = static_cast<B>(B{1} << (8 * sizeof(T) - 1));
  const B inf = static_cast<B>((sign - 1) & ~((B{1} << mantissa) - 1));
  const B quiet = static_cast<B>(inf | B{1} << (mantissa - 1));
  const B one = std::bit_cast<B>(Format<T>::from(1));
  std::vector<B> bits = {B{0}, B{1}, static_cast<B>((B{1} << mantissa) - 1), static_cast<B>(B{1} << mantissa), one, static_cast<B>(inf - 1), inf, static_cast<B>(inf | 1),
                         static_cast<B>(quiet - 1), quiet, static_cast<B>(quiet | 1), static_cast<B>(sign - 1), static_cast<B>(sign - 2)};
  const std::size_t positive = bits.size();
  for (std::size_t i = 0; i < positive; ++i) bits.push_back(static_cast<B>(bits[i] | sign));
  return bits;
}

/// The operation on two numbers as IEEE 754-2019 has it.
double combined(ReduceOp op, double a, double b) {
  if (op == ReduceOp::sum || op == ReduceOp::avg) return a + b;
  if (op == ReduceOp::prod) return a * b;
  if (std::isnan(a) || std::isnan(b)) return std::numeric_limits<double>::quiet_NaN();
  const bool a_less = a < b || (a == b && std::signbit(a));
  return a_less == (op == ReduceOp::min) ? a : b;
}

}  // namespace

TEMPLATE_TEST_CASE("special values keep their meaning, and no NaN is mistaken for an empty slot", "[comm][host][numeric][heavy]", float, double, Half, BFloat16) {
  const auto wire = GENERATE(Wire::flagged, Wire::sentinel);
  const auto op = GENERATE(ReduceOp::sum, ReduceOp::prod, ReduceOp::min, ReduceOp::max, ReduceOp::avg);
  const auto bits = special_bits<TestType>();
  std::size_t pairs = 0;
  for (const AlgorithmChoice choice : algorithms)
    for (const int size : {2, 3, 5}) {
      Ranks ranks(counted(size), forced(choice, wire, size), 64 << 10);
      // Every pair of special values on every two neighbours; the others hold the second of them.
      for (int first = 0; first + 1 < size; ++first) {
        Vectors<TestType> inputs(static_cast<std::size_t>(size));
        for (const auto a : bits)
          for (const auto b : bits)
            for (int rank = 0; rank < size; ++rank) inputs[static_cast<std::size_t>(rank)].push_back(std::bit_cast<TestType>(rank == first ? a : b));
        const auto outputs = reduce(ranks, inputs, Format<TestType>::type, op, first % 2 == 0, 1);
        CAPTURE(to_string(choice), size, first, name_of(op), name_of(wire), name_of(Format<TestType>::type));
        for (const auto& output : outputs) CHECK(same_bits(output, outputs[0]));
        for (std::size_t i = 0; i < inputs[0].size(); ++i) {
          ++pairs;
          const double got = Format<TestType>::to(outputs[0][i]);
          double expected = Format<TestType>::to(inputs[0][i]);
          bool nan = std::isnan(expected);
          for (std::size_t rank = 1; rank < inputs.size(); ++rank) {
            const double value = Format<TestType>::to(inputs[rank][i]);
            nan = nan || std::isnan(value);
            expected = combined(op, expected, value);
          }
          bool right = true;
          if (nan) {
            right = std::isnan(got);
          } else if (op == ReduceOp::min || op == ReduceOp::max) {
            right = got == expected && std::signbit(got) == std::signbit(expected);
          } else if (expected == 0 && op != ReduceOp::prod) {
            right = got == 0 && std::signbit(got) == std::signbit(expected);
          }
          if (!right) {
            CAPTURE(i, bits[i / bits.size()], bits[i % bits.size()], got, expected);
            CHECK(right);
          }
        }
      }
    }
  if (op == ReduceOp::avg) WARN(pairs << " combinations of special values in " << name_of(Format<TestType>::type) << " over " << name_of(wire) << " for each operation");
}

TEST_CASE("messages of nothing but the empty slot's own pattern arrive", "[comm][host][numeric][heavy]") {
  const auto type = GENERATE(DataType::float32, DataType::float16, DataType::bfloat16);
  for (const AlgorithmChoice choice : algorithms) {
    Ranks ranks(counted(3), forced(choice, Wire::sentinel, 3), 128 << 10);
    for (const auto op : {ReduceOp::sum, ReduceOp::max}) {
      const std::size_t count = 10'007;
      const Vectors<std::byte> inputs(3, std::vector<std::byte>(count * size_of(type), std::byte{0xff}));
      for (std::size_t rank = 0; rank < 3; ++rank) {
        std::memcpy(ranks.in[rank].data(), inputs[rank].data(), inputs[rank].size());
        ranks.communicators[rank].all_reduce({ranks.in[rank].data(), count, type}, {ranks.out[rank].data(), count, type}, op);
      }
      for (std::size_t rank = 0; rank < 3; ++rank) {
        ranks.communicators[rank].synchronize();
        std::size_t numbers = 0;
        for (std::size_t i = 0; i < count; ++i) {
          const std::byte* at = ranks.out[rank].data() + i * size_of(type);
          std::uint32_t word = 0;
          std::memcpy(&word, at, size_of(type));
          const float value = type == DataType::float32 ? std::bit_cast<float>(word)
                              : type == DataType::float16 ? kernels::to_float(Half{static_cast<std::uint16_t>(word)})
                                                          : kernels::to_float(BFloat16{static_cast<std::uint16_t>(word)});
          numbers += !std::isnan(value);
        }
        CHECK(numbers == 0);
      }
    }
  }
}

TEMPLATE_TEST_CASE("integers wrap, and averages truncate toward zero", "[comm][host][numeric][heavy]", std::int8_t, std::uint8_t, std::int32_t, std::uint32_t, std::int64_t, std::uint64_t) {
  using T = TestType;
  using U = std::make_unsigned_t<T>;
  const int width = sizeof(T) == 1 ? 0 : sizeof(T) == 4 ? 1 : 2;
  constexpr DataType types[3][2] = {{DataType::int8, DataType::uint8}, {DataType::int32, DataType::uint32}, {DataType::int64, DataType::uint64}};
  const DataType type = types[width][std::is_unsigned_v<T>];
  const std::vector<T> edges = {T{0}, T{1}, static_cast<T>(-1), std::numeric_limits<T>::max(), std::numeric_limits<T>::min(), static_cast<T>(std::numeric_limits<T>::max() - 1), T{7}, static_cast<T>(-7)};
  for (const AlgorithmChoice choice : algorithms) {
    Ranks ranks(counted(3), forced(choice, Wire::flagged, 3), 64 << 10);
    for (const auto op : {ReduceOp::sum, ReduceOp::prod, ReduceOp::avg, ReduceOp::min, ReduceOp::max}) {
      Vectors<T> inputs(3);
      std::vector<T> expected;
      for (const T a : edges)
        for (const T b : edges)
          for (const T c : edges) {
            inputs[0].push_back(a), inputs[1].push_back(b), inputs[2].push_back(c);
            const auto sum = static_cast<T>(static_cast<U>(static_cast<U>(a) + static_cast<U>(b) + static_cast<U>(c)));
            const auto product = static_cast<T>(static_cast<U>(std::uint64_t{static_cast<U>(a)} * static_cast<U>(b) * static_cast<U>(c)));
            expected.push_back(op == ReduceOp::sum ? sum : op == ReduceOp::prod ? product : op == ReduceOp::avg ? static_cast<T>(sum / T{3}) : op == ReduceOp::min ? std::min({a, b, c}) : std::max({a, b, c}));
          }
      CAPTURE(to_string(choice), name_of(op), name_of(type));
      for (const auto& output : reduce(ranks, inputs, type, op, true, 1)) CHECK(same_bits(output, expected));
    }
  }
}

namespace {

/// Round to nearest even by exact arithmetic in double: the spacing around the value, and where it lies between two steps.
double rounded_to(double value, int mantissa_bits, int least_exponent, double largest) {
  if (value == 0 || std::isinf(value)) return value;
  const int exponent = std::max(std::ilogb(value), least_exponent);
  const double step = std::ldexp(1.0, exponent - mantissa_bits);
  const double result = std::nearbyint(value / step) * step;
  return std::fabs(result) > largest ? std::copysign(std::numeric_limits<double>::infinity(), value) : result;
}

}  // namespace

TEST_CASE("every half and every bfloat16 survives the way to float and back", "[comm][kernels][numeric][heavy]") {
  std::size_t wrong = 0, nans = 0;
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const Half half{static_cast<std::uint16_t>(bits)};
    const BFloat16 brain{static_cast<std::uint16_t>(bits)};
    const int half_exponent = static_cast<int>(bits >> 10 & 31), half_mantissa = static_cast<int>(bits & 1023);
    const float h = kernels::to_float(half), b = kernels::to_float(brain);
    wrong += std::isnan(h) != (half_exponent == 31 && half_mantissa != 0);
    if (std::isnan(h)) {
      wrong += kernels::to_half(h).bits != 0x7fff;
      ++nans;
    } else {
      const double value = half_exponent == 31 ? std::numeric_limits<double>::infinity()
                           : half_exponent == 0 ? std::ldexp(half_mantissa, -24)
                                                : std::ldexp(1024 + half_mantissa, half_exponent - 25);
      wrong += h != static_cast<float>(bits & 0x8000 ? -value : value) || std::signbit(h) != ((bits & 0x8000) != 0);
      wrong += kernels::to_half(h).bits != bits;
    }
    wrong += std::bit_cast<std::uint32_t>(b) != bits << 16;
    wrong += kernels::to_bfloat16(b).bits != (std::isnan(b) ? 0x7fff : bits);
  }
  CHECK(nans == 2 * 1023);
  CHECK(wrong == 0);
}

TEST_CASE("floats are rounded to the nearest half and bfloat16, ties to even", "[comm][kernels][numeric][heavy]") {
  std::size_t wrong = 0, tried = 0;
  const auto check = [&](std::uint32_t bits) {
    const float value = std::bit_cast<float>(bits);
    if (std::isnan(value)) return;
    ++tried;
    const float half = kernels::to_float(kernels::to_half(value)), brain = kernels::to_float(kernels::to_bfloat16(value));
    wrong += half != rounded_to(value, 10, -14, 65504) || std::signbit(half) != std::signbit(value);
    wrong += brain != rounded_to(value, 7, -126, 0x1.fep127) || std::signbit(brain) != std::signbit(value);
  };
  std::mt19937 random(20240);
  for (int i = 0; i < 2'000'000; ++i) check(random());
  // Around every boundary of both types: halfway between neighbours and one bit to either side.
  for (std::uint32_t bits = 0; bits < 65536; ++bits)
    for (const std::uint32_t low : {0x0u, 0x1u, 0x0fffu, 0x1000u, 0x1001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) check(bits << 16 | low);
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const auto value = std::bit_cast<std::uint32_t>(kernels::to_float(Half{static_cast<std::uint16_t>(bits)}));
    for (const std::uint32_t beside : {0x0fffu, 0x1000u, 0x1001u}) check(value + beside);
  }
  WARN(tried << " floats rounded, " << wrong << " wrong");
  CHECK(wrong == 0);
}
