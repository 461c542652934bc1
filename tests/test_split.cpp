// Communicators made out of others: who is in them, in which order, and that they work beside each other.
#include <thread>

#include "ranks.hpp"
#include "test.hpp"
#include "trial.hpp"

using namespace collectives;

namespace {

Options on_host() {
  Options options;
  options.backend = Backend::host;
  options.pool_bytes = std::size_t{256} << 20;  // of all ranks and communicators of a process together
  options.timeout_ms = 20'000;
  return options;
}

/// The sum of every rank's number over a communicator.
int sum_of(Communicator& communicator, int number) {
  communicator.all_reduce({&number, 1, DataType::int32}, {&number, 1, DataType::int32}, ReduceOp::sum);
  communicator.synchronize();
  return number;
}

void require_that(bool holds, const std::string& what) {
  if (!holds) throw Error(ErrorCode::internal, what);
}

/// On every rank of a communicator of five: colors, keys against the order of the ranks, none, and a split of what was split.
void split_in_all_ways(Communicator& world) {
  const int rank = world.rank();
  auto parity = world.split(rank % 2, -rank, on_host());  // 4 2 0, and 3 1
  require_that(parity.has_value() && parity->size() == (rank % 2 == 0 ? 3 : 2) && parity->rank() == (4 - rank) / 2, "ranks stand by their keys");
  require_that(sum_of(*parity, rank) == (rank % 2 == 0 ? 6 : 4), "the sum is that of the color's ranks");
  require_that(sum_of(world, rank) == 10, "the whole goes on working");
  {
    auto same_key = world.split(7, 0, on_host());
    require_that(same_key->rank() == rank && same_key->size() == 5, "ranks with one key stand by their numbers");
  }
  auto alone = parity->split(rank, 0, on_host());
  require_that(alone->size() == 1 && alone->rank() == 0 && sum_of(*alone, rank) == rank, "a rank may be alone");
  const auto nobody = world.split(rank == 3 ? 1 : -1, 0, on_host());
  require_that(nobody.has_value() == (rank == 3), "who has no color has no communicator");
  const std::vector<int> members = {2, 0, 3};
  const auto place = std::find(members.begin(), members.end(), rank);
  if (place != members.end()) {
    auto some = world.subgroup(members, on_host());
    require_that(some.rank() == place - members.begin() && sum_of(some, rank) == 5, "a subgroup is made by its members alone");
  }
  require_that(sum_of(world, 1) == 5 && sum_of(*parity, 1) == parity->size(), "all of them live side by side");
}

}  // namespace

TEST_CASE("a communicator splits by color and key, again and again, on ranks that met by an id", "[comm][host][processes][split]") {
  const auto kind = GENERATE(RanksAre::threads, RanksAre::processes);
  const UniqueId id = make_unique_id();
  const auto outcomes = run_ranks(kind, 5, [&](int rank) {
    Communicator world = Communicator::create(id, rank, 5, on_host());
    split_in_all_ways(world);
    world.barrier();
    world.synchronize();
  });
  CHECK(outcomes == std::vector<std::string>(5, "ok"));
}

TEST_CASE("a communicator of one process splits where each of its ranks has a thread", "[comm][host][split]") {
  auto world = Communicator::create_local(counted(5), on_host());
  const auto outcomes = run_ranks(RanksAre::threads, 5, [&](int rank) { split_in_all_ways(world[static_cast<std::size_t>(rank)]); });
  CHECK(outcomes == std::vector<std::string>(5, "ok"));
}

TEST_CASE("a split that a rank does not join ends at the deadline and names it; a subgroup without it works", "[comm][host][split][failure]") {
  Options options = on_host();
  options.timeout_ms = 300;
  const bool local = GENERATE(true, false);
  std::vector<Communicator> world;
  if (local) world = Communicator::create_local(counted(3), options);
  const UniqueId id = make_unique_id();
  const auto outcomes = run_ranks(RanksAre::threads, 3, [&](int rank) {
    std::optional<Communicator> own;
    if (!local) own = Communicator::create(id, rank, 3, options);
    Communicator& here = local ? world[static_cast<std::size_t>(rank)] : *own;
    if (rank == 2) return std::this_thread::sleep_for(std::chrono::milliseconds(900));
    auto pair = here.subgroup(std::vector<int>{0, 1}, options);
    require_that(sum_of(pair, rank + 1) == 3, "the others need not take part");
    try {
      here.split(0, 0, options);
    } catch (const Error& error) {
      require_that(error.code() == ErrorCode::timeout, error.what());
      throw;
    }
  });
  for (const int rank : {0, 1}) CHECK_THAT(outcomes[static_cast<std::size_t>(rank)], ContainsSubstring("no letter from rank 2 within 300 ms"));
  CHECK(outcomes[2] == "ok");
}

TEST_CASE("a subgroup that makes no sense is refused", "[comm][host][split]") {
  auto world = Communicator::create_local(counted(3), on_host());
  CHECK_THROWS_WITH(world[0].subgroup(std::vector<int>{}), ContainsSubstring("nobody"));
  CHECK_THROWS_WITH(world[0].subgroup(std::vector<int>{1, 2}), ContainsSubstring("not of the subgroup"));
  CHECK_THROWS_WITH(world[0].subgroup(std::vector<int>{0, 3}), ContainsSubstring("names rank 3"));
  CHECK_THROWS_WITH(world[0].subgroup(std::vector<int>{0, 1, 0}), ContainsSubstring("names rank 0"));
  CHECK(world[1].subgroup(std::vector<int>{1}, on_host()).size() == 1);
}

TEST_CASE("a living communicator is made anew without a link that must not be used", "[comm][host][split][renew]") {
  const bool local = GENERATE(true, false);
  std::vector<Communicator> world;
  Options options = on_host();
  if (local) world = Communicator::create_local(counted(4), options);
  const UniqueId id = make_unique_id();
  std::vector<std::string> explained(12);
  const auto outcomes = run_ranks(RanksAre::threads, 4, [&](int rank) {
    std::optional<Communicator> own;
    if (!local) own = Communicator::create(id, rank, 4, options);
    Communicator& here = local ? world[static_cast<std::size_t>(rank)] : *own;
    const auto tell = [&](int when) { explained[static_cast<std::size_t>(4 * when + rank)] = here.explain(1 << 20, DataType::float32, ReduceOp::sum).explanation; };
    tell(0);
    std::vector<int> large(300'000, rank), result(large.size());
    here.all_reduce({large.data(), large.size(), DataType::int32}, {result.data(), result.size(), DataType::int32}, ReduceOp::sum);
    Options fewer = options;
    fewer.refused = {{0, 2}, {3, 1}};
    here.renew(fewer);
    require_that(result == std::vector<int>(large.size(), 6), "what was under way was finished");
    require_that(here.rank() == rank && here.size() == 4 && sum_of(here, rank) == 6, "it is the same group");
    tell(1);
    here.renew(options);
    require_that(sum_of(here, rank + 1) == 10, "and once more");
    tell(2);
  });
  CHECK(outcomes == std::vector<std::string>(4, "ok"));
  for (std::size_t rank = 0; rank < 4; ++rank) {
    CHECK_THAT(explained[rank], ContainsSubstring("each reaches every other directly"));
    CHECK_THAT(explained[4 + rank], ContainsSubstring("some reach each other through the host only"));
    CHECK(explained[8 + rank] == explained[rank]);
  }
}
