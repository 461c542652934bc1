#include <chrono>
#include <cstring>
#include <thread>

#include "ranks.hpp"
#include "test.hpp"
#include "trial.hpp"

using namespace collectives;

namespace {

constexpr int ranks = 4;
constexpr std::size_t most = 96;

std::uint32_t payload(int rank, std::uint64_t call, std::size_t element) {
  const std::uint64_t x = (call * 4 + static_cast<std::uint64_t>(rank)) * 0x9e3779b97f4a7c15u + element * 0xbf58476d1ce4e5b9u;
  return static_cast<std::uint32_t>(x >> 32 ^ x);
}

/// A rank's thread: every call right behind the one before, on one communicator or the other.
std::uint64_t run_rank(Communicator& first, Communicator& second, std::uint64_t calls) {
  const int rank = first.rank();
  std::uint64_t wrong = 0;
  std::uint32_t in[most], out[most];
  for (std::uint64_t call = 0; call < calls; ++call) {
    const std::size_t count = 1 + call * 7 % most;
    for (std::size_t i = 0; i < count; ++i) in[i] = payload(rank, call, i);
    const bool in_place = call % 3 == 0;
    if (in_place) std::memcpy(out, in, count * sizeof *out);
    Communicator& communicator = call / 5 % 2 == 0 ? first : second;
    // Floats travel as small integers over the other wire.
    const bool floats = call % 2 == 1;
    if (floats)
      for (std::size_t i = 0; i < count; ++i) {
        const auto value = static_cast<float>(in[i] % 4096);
        std::memcpy(in_place ? &out[i] : &in[i], &value, sizeof value);
      }
    const DataType type = floats ? DataType::float32 : DataType::uint32;
    communicator.all_reduce({in_place ? out : in, count, type}, {out, count, type}, ReduceOp::sum);
    communicator.synchronize();
    for (std::size_t i = 0; i < count; ++i) {
      std::uint32_t expected = 0;
      for (int peer = 0; peer < ranks; ++peer) expected += floats ? payload(peer, call, i) % 4096 : payload(peer, call, i);
      float value = 0;
      std::memcpy(&value, &out[i], sizeof value);
      wrong += floats ? value != static_cast<float>(expected) : out[i] != expected;
    }
  }
  return wrong;
}

/// Half of the calls begin just before each of the two places where a 32-bit counter turns over.
void soak(std::uint64_t calls) {
  struct Pair {
    AlgorithmChoice first, second;
  };
  const Pair pairs[] = {{{Algorithm::one_shot}, {Algorithm::two_shot}}, {{Algorithm::ring}, {Algorithm::one_shot}}, {{Algorithm::binary_tree}, {Algorithm::kary_tree, 3}},
                        {{Algorithm::balanced_tree}, {Algorithm::ring}}};
  const auto begin = std::chrono::steady_clock::now();
  std::uint64_t total = 0, wrong = 0;
  for (const std::uint32_t epoch : {0x7fffff00u, 0xffffff00u})
    for (const Pair& pair : pairs) {
      Options options;
      options.backend = Backend::host;
      options.first_epoch = epoch;
      options.wire = Wire::sentinel;
      options.pool_bytes = 256 << 20;  // for both together
      options.algorithm = pair.first;
      auto first = Communicator::create_local(std::vector<int>(ranks), options);
      options.algorithm = pair.second;
      auto second = Communicator::create_local(std::vector<int>(ranks), options);
      const std::uint64_t share = calls / 8;
      std::vector<std::uint64_t> wrong_of(ranks);
      const auto outcomes = run_ranks(RanksAre::threads, ranks, [&](int rank) {
        const auto r = static_cast<std::size_t>(rank);
        wrong_of[r] = run_rank(first[r], second[r], share);
      });
      for (const auto& outcome : outcomes) CHECK(outcome == "ok");
      for (const std::uint64_t count : wrong_of) wrong += count;
      total += share;
    }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  WARN(total << " calls of " << ranks << " ranks in " << took.count() << " s, " << wrong << " elements wrong");
  CHECK(wrong == 0);
}

}  // namespace

// Each communicator makes half of an eighth of the calls, 256 of them before the wrap.
#if defined(__SANITIZE_THREAD__)
TEST_CASE("five thousand calls in a row, over both wraps of the counter, come out exact", "[comm][host][soak]") { soak(5'000); }
#else
TEST_CASE("twenty thousand calls in a row, over both wraps of the counter, come out exact", "[comm][host][soak]") { soak(20'000); }
#endif

TEST_CASE("a million calls in a row, over both wraps of the counter, come out exact", "[comm][host][soak][.slow]") { soak(1'000'000); }
