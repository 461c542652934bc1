#include "memory/arena.hpp"

#include <map>
#include <random>

#include "test.hpp"

using namespace collectives;

namespace {

/// What an arena promises, unit by unit: an owner for each, none if free.
class Model {
 public:
  explicit Model(std::size_t bytes) : owner_(bytes / Arena::alignment, 0) {}

  static std::size_t units(std::size_t bytes) { return std::max<std::size_t>(1, (bytes + Arena::alignment - 1) / Arena::alignment); }

  /// The lowest place with room for `bytes`, or none.
  std::optional<std::size_t> first_fit(std::size_t bytes) const {
    std::size_t run = 0;
    for (std::size_t i = 0; i < owner_.size(); ++i) {
      run = owner_[i] == 0 ? run + 1 : 0;
      if (run == units(bytes)) return (i + 1 - run) * Arena::alignment;
    }
    return std::nullopt;
  }
  void take(std::size_t offset, std::size_t bytes, int who) {
    for (std::size_t i = 0; i < units(bytes); ++i) owner_[offset / Arena::alignment + i] = who;
  }
  void free(int who) { std::replace(owner_.begin(), owner_.end(), who, 0); }
  std::size_t in_use() const {
    return Arena::alignment * static_cast<std::size_t>(std::count_if(owner_.begin(), owner_.end(), [](int who) { return who != 0; }));
  }
  std::size_t largest_free() const {
    std::size_t run = 0, largest = 0;
    for (const int who : owner_) largest = std::max(largest, run = who == 0 ? run + 1 : 0);
    return largest * Arena::alignment;
  }

 private:
  std::vector<int> owner_;
};

}  // namespace

TEST_CASE("an arena does what a simple model does, call by call", "[memory][arena]") {
  const auto seed = GENERATE(take(20, random(1u, 0xffffffffu)));
  CAPTURE(seed);
  std::mt19937 random_number(seed);
  constexpr std::size_t bytes = 64 * 1024;
  Arena arena(bytes);
  Model model(bytes);
  std::map<int, std::size_t> live;
  std::size_t failures = 0, allocations = 0, high_water = 0;
  for (int call = 1; call <= 2000; ++call) {
    if (live.empty() || random_number() % 5 < 3) {
      const std::size_t wanted = random_number() % 4 == 0 ? random_number() % 20'000 : random_number() % 600;
      const auto expected = model.first_fit(wanted);
      if (!expected) {
        REQUIRE_THROWS_AS(arena.allocate(wanted), Error);
        ++failures;
        continue;
      }
      const std::size_t offset = arena.allocate(wanted);
      REQUIRE(offset == *expected);
      REQUIRE(arena.size_of(offset) == Model::units(wanted) * Arena::alignment);
      model.take(offset, wanted, call);
      live[call] = offset;
      ++allocations;
    } else {
      const auto victim = std::next(live.begin(), static_cast<long>(random_number() % live.size()));
      arena.release(victim->second);
      model.free(victim->first);
      live.erase(victim);
    }
    high_water = std::max(high_water, model.in_use());
    const auto statistics = arena.statistics();
    REQUIRE(statistics.in_use == model.in_use());
    REQUIRE(statistics.high_water == high_water);
    REQUIRE(statistics.allocations == allocations);
    REQUIRE(statistics.failures == failures);
    REQUIRE(arena.largest_free() == model.largest_free());
  }
  CHECK(failures > 0);
  for (const auto& [who, offset] : live) arena.release(offset);
  CHECK(arena.largest_free() == bytes);
}

TEST_CASE("freed neighbours become one, whatever the order", "[memory][arena]") {
  std::vector<int> order{0, 1, 2, 3};
  do {
    Arena arena(4 * 256);
    std::vector<std::size_t> offsets;
    for (int i = 0; i < 4; ++i) offsets.push_back(arena.allocate(256));
    CHECK(arena.largest_free() == 0);
    for (const int i : order) arena.release(offsets[i]);
    CHECK(arena.largest_free() == 4 * 256);
    CHECK(arena.allocate(4 * 256) == 0);
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST_CASE("an arena that is full says what it has", "[memory][arena]") {
  Arena arena(1024);
  CHECK(arena.allocate(0) == 0);
  CHECK(arena.allocate(0) == 256);
  CHECK(arena.allocate(257) == 512);
  try {
    arena.allocate(1);
    FAIL("the arena is full");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::out_of_memory);
    CHECK_THAT(error.what(), ContainsSubstring("1 bytes needed") && ContainsSubstring("bound is 1024 bytes, 1024 of them"));
  }
  CHECK_THROWS_AS(arena.allocate(~std::size_t{0}), Error);
  CHECK_THROWS_AS(Arena(0).allocate(0), Error);
}

TEST_CASE("an arena takes back only what it gave", "[memory][arena]") {
  Arena arena(4096);
  const auto offset = arena.allocate(1000);
  CHECK_THROWS_WITH(arena.release(offset + 256), ContainsSubstring("offset 256 is not an allocation"));
  arena.release(offset);
  CHECK_THROWS_AS(arena.release(offset), Error);
}

TEST_CASE("an allocation that is undone counts as a failure", "[memory][arena]") {
  Arena arena(4096);
  arena.allocate(256);
  arena.undo(arena.allocate(1024));
  const auto statistics = arena.statistics();
  CHECK(statistics.in_use == 256);
  CHECK(statistics.high_water == 256);
  CHECK(statistics.allocations == 1);
  CHECK(statistics.failures == 1);
}
