// Sends and receives: any pattern, any number, beside each other and between other calls.
#include <algorithm>
#include <cstring>
#include <optional>
#include <random>
#include <thread>

#include "kernels/wire.hpp"
#include "ranks.hpp"
#include "test.hpp"
#include "trial.hpp"

#if COLLECTIVES_HAS_CUDA
#include "base/cuda.hpp"
#endif

using namespace collectives;

namespace {

using Bytes = std::vector<std::byte>;

/// One message of a run that all ranks know.
struct Planned {
  int from = 0, to = 0;
  std::size_t bytes = 0;
  std::size_t offset = 0;  ///< by which its buffers miss 16 bytes
  std::uint64_t seed = 0;
};

std::uint64_t scrambled(std::uint64_t seed, std::size_t i) {
  std::uint64_t value = (seed ^ i) * 0x9e3779b97f4a7c15u + i * 0xbf58476d1ce4e5b9u;
  return value ^ value >> 29;
}

std::byte byte_in_word(std::uint32_t word, std::size_t i) { return static_cast<std::byte>(word >> i % 4 * 8); }

/// The seed's highest bits choose a content that a wire could take for its own.
std::byte byte_of(std::uint64_t seed, std::size_t i) {
  const std::size_t word = i / 4, shift = i % 4 * 8;
  switch (seed >> 61) {
    case 0: return byte_in_word(kernels::EscapedWire::looks_empty, i);  // like empty slots
    case 1: return scrambled(seed, word) % 3 == 0 ? std::byte{0} : std::byte{0xff};
    case 2: return i % 16 < 4 ? static_cast<std::byte>(scrambled(seed, word)) : std::byte{0xff};
    // Like words that hold escapes: the top bit clear, then some length, then sixteen bits.
    case 3: return static_cast<std::byte>(((scrambled(seed, word) & 0x7fff0000u) | (word % 2 == 0 ? 0xffffu : 0u)) >> shift);
    case 4: return byte_in_word(kernels::EscapedWire::looks_marked, i);  // like what empty words travel as
    case 5: {  // one or the other here and there: some threads' packs need their word, some do not
      const std::uint64_t kind = scrambled(seed, word) % 50;
      return kind > 1 ? static_cast<std::byte>(scrambled(seed, i) >> 37) : byte_in_word(kind == 1 ? kernels::EscapedWire::looks_marked : kernels::EscapedWire::looks_empty, i);
    }
    default: return static_cast<std::byte>(scrambled(seed, i) >> 37);
  }
}

Bytes content_of(const Planned& message) {
  Bytes bytes(message.bytes);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = byte_of(message.seed, i);
  return bytes;
}

/// Rounds of messages between random pairs: in some rounds a rank has none and does not call. A third of them are whole packs.
std::vector<std::vector<Planned>> random_rounds(int ranks, int rounds, std::size_t most_bytes, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::vector<Planned>> all(static_cast<std::size_t>(rounds));
  for (auto& round : all) {
    const auto messages = random() % static_cast<std::uint64_t>(2 * ranks + 1);
    for (std::uint64_t m = 0; m < messages; ++m) {
      const auto pick = [&] { return static_cast<int>(random() % static_cast<std::uint64_t>(ranks)); };
      const std::size_t bytes = random() % 4 == 0 ? random() % (most_bytes + 1) : random() % 700;
      const bool plain = random() % 3 == 0;
      round.push_back({pick(), pick(), plain ? bytes / 16 * 16 : bytes, plain ? 0 : random() % 5, random()});
    }
  }
  return all;
}

/// What a rank holds of one round.
struct Held {
  std::vector<Bytes> sent, received, expected;
  std::vector<Send> sends;
  std::vector<Receive> receives;
};

constexpr std::size_t guard = 32;

std::byte* aligned_place(Bytes& memory, std::size_t offset) {
  auto at = reinterpret_cast<std::uintptr_t>(memory.data()) + guard;
  at = (at + 15) / 16 * 16 + offset;
  return reinterpret_cast<std::byte*>(at);
}

Held hold(const std::vector<Planned>& round, int rank) {
  Held held;
  for (const Planned& message : round) {
    if (message.from == rank) {
      Bytes& memory = held.sent.emplace_back(message.bytes + 3 * guard);
      std::byte* at = aligned_place(memory, message.offset);
      const Bytes content = content_of(message);
      if (!content.empty()) std::memcpy(at, content.data(), content.size());
      held.sends.push_back({{at, message.bytes, DataType::uint8}, message.to});
    }
    if (message.to == rank) {
      Bytes& memory = held.received.emplace_back(message.bytes + 3 * guard, std::byte{0xa5});
      Bytes& expected = held.expected.emplace_back(memory);
      std::byte* at = aligned_place(memory, (message.offset * 3) % 7);
      const Bytes content = content_of(message);
      if (!content.empty()) std::memcpy(expected.data() + (at - memory.data()), content.data(), content.size());
      held.receives.push_back({{at, message.bytes, DataType::uint8}, message.from});
    }
  }
  return held;
}

/// Plays one rank's part and returns how many messages came out wrong. Every few rounds everybody reduces as well.
std::size_t play(Communicator& communicator, const std::vector<std::vector<Planned>>& rounds) {
  std::vector<Held> held;
  for (const auto& round : rounds) held.push_back(hold(round, communicator.rank()));
  std::vector<int> sums(rounds.size());
  for (std::size_t r = 0; r < rounds.size(); ++r) {
    if (!held[r].sends.empty() || !held[r].receives.empty()) communicator.exchange(held[r].sends, held[r].receives);
    if (r % 5 != 0) continue;
    sums[r] = communicator.rank() + static_cast<int>(r);
    communicator.all_reduce({&sums[r], 1, DataType::int32}, {&sums[r], 1, DataType::int32}, ReduceOp::sum);
  }
  communicator.synchronize();
  std::size_t wrong = 0;
  const int ranks = communicator.size();
  for (std::size_t r = 0; r < rounds.size(); ++r) {
    for (std::size_t m = 0; m < held[r].received.size(); ++m) wrong += held[r].received[m] != held[r].expected[m];
    if (r % 5 == 0) wrong += sums[r] != ranks * (ranks - 1) / 2 + ranks * static_cast<int>(r);
  }
  return wrong;
}

void play_on_threads(std::vector<Communicator>& communicators, const std::vector<std::vector<Planned>>& rounds) {
  std::vector<std::size_t> wrong(communicators.size());
  const auto outcomes = run_ranks(RanksAre::threads, static_cast<int>(communicators.size()), [&](int rank) {
    const auto r = static_cast<std::size_t>(rank);
    wrong[r] = play(communicators[r], rounds);
  });
  CHECK(outcomes == std::vector<std::string>(communicators.size(), "ok"));
  CHECK(wrong == std::vector<std::size_t>(communicators.size(), 0));
}

/// Both ways in which messages travel.
Wire any_wire() { return GENERATE(Wire::flagged, Wire::sentinel); }

Options on_host(int ranks, Wire wire) {
  Options options;
  options.wire = wire;
  options.backend = Backend::host;
  options.pool_bytes = static_cast<std::size_t>(ranks) * (3u << 19);
  options.first_epoch = 0xfffffff0u;  // tiles are counted from here as well: every run crosses the wrap
  options.timeout_ms = 20'000;
  return options;
}

}  // namespace

TEST_CASE("messages of any size and pattern arrive as they were sent, in order, between collectives", "[comm][host][exchange]") {
  const Wire wire = any_wire();
  const int ranks = GENERATE(1, 2, 3, 5);
  const auto rounds = random_rounds(ranks, 120, 100'000, static_cast<std::uint64_t>(ranks));
  auto communicators = Communicator::create_local(counted(ranks), on_host(ranks, wire));
  play_on_threads(communicators, rounds);
}

TEST_CASE("messages many times larger than the slots arrive, sixteen ranks among them", "[comm][host][exchange][heavy]") {
  const Wire wire = any_wire();
  const int ranks = GENERATE(2, 7, 16);
  const auto rounds = random_rounds(ranks, 20, 3 << 19, static_cast<std::uint64_t>(ranks) + 99);
  Options options = on_host(ranks, wire);
  options.pool_bytes = static_cast<std::size_t>(ranks) << 20;  // half the slots that the others have, the least
  auto communicators = Communicator::create_local(counted(ranks), options);
  play_on_threads(communicators, rounds);
}

TEST_CASE("processes send each other what they like", "[comm][host][exchange][processes]") {
  const Wire wire = any_wire();
  const int ranks = 4;
  const auto rounds = random_rounds(ranks, 60, 200'000, 4711);
  const UniqueId id = make_unique_id();
  const auto outcomes = run_ranks(RanksAre::processes, ranks, [&](int rank) {
    auto communicator = Communicator::create(id, rank, ranks, on_host(ranks, wire));
    if (const std::size_t wrong = play(communicator, rounds); wrong != 0) throw Error(ErrorCode::internal, std::to_string(wrong) + " messages are wrong");
    communicator.barrier();
    communicator.synchronize();
  });
  CHECK(outcomes == std::vector<std::string>(4, "ok"));
}

TEST_CASE("pairs that do not reach each other's pools meet in common memory", "[comm][host][exchange][reach]") {
  const Wire wire = any_wire();
  ::setenv("COLLECTIVES_P2P", "0-2,1-2", 1);
  auto communicators = Communicator::create_local(counted(4), on_host(8, wire));
  ::unsetenv("COLLECTIVES_P2P");
  const auto rounds = random_rounds(4, 60, 100'000, 5);
  play_on_threads(communicators, rounds);
}

TEST_CASE("as many messages as a call takes arrive in their order, through lanes that lap many times within it", "[comm][host][exchange]") {
  const Wire wire = any_wire();
  const bool plain = GENERATE(false, true);
  std::mt19937_64 random(17);
  std::vector<std::vector<Planned>> rounds(3);
  for (auto& round : rounds)
    for (int m = 0; m < 48; ++m)
      for (const int from : {0, 1}) {
        const std::size_t bytes = random() % (m % 8 == 0 ? 300'000 : 5'000) + 1;
        round.push_back({from, 1 - from, plain ? (bytes + 15) / 16 * 16 : bytes, plain ? 0 : random() % 5, random()});
      }
  Options options = on_host(2, wire);
  options.pool_bytes = 3u << 19;  // slots of a few KB
  auto communicators = Communicator::create_local(counted(2), options);
  play_on_threads(communicators, rounds);
}

TEST_CASE("a lane's slots are free again whatever was read of them in which call", "[comm][host][exchange]") {
  // One tile a call, then as many as there are slots, then one more than those, and so on: credits come late, never too late.
  const Wire wire = any_wire();
  std::vector<std::vector<Planned>> rounds;
  std::uint64_t seed = 1;
  for (int lap = 0; lap < 4; ++lap)
    for (int tiles = 1; tiles < 11; ++tiles) {
      auto& round = rounds.emplace_back();
      for (int tile = 0; tile < tiles; ++tile) round.push_back({tiles % 2, 1 - tiles % 2, 64, 0, scrambled(seed++, 3)});
    }
  auto communicators = Communicator::create_local(counted(2), on_host(2, wire));
  play_on_threads(communicators, rounds);
}

TEST_CASE("a sender goes on before anyone receives, as far as the slots reach; then it waits", "[comm][host][exchange]") {
  auto communicators = Communicator::create_local(counted(3), on_host(3, any_wire()));
  const Bytes small(1000, std::byte{7});
  Bytes got(1000);
  communicators[0].exchange(std::vector<Send>{{{small.data(), small.size(), DataType::uint8}, 1}}, {});
  CHECK_NOTHROW(communicators[0].synchronize());
  communicators[1].exchange({}, std::vector<Receive>{{{got.data(), got.size(), DataType::uint8}, 0}});
  CHECK_NOTHROW(communicators[1].synchronize());
  CHECK(got == small);
}

TEST_CASE("a message that is not sent, and one of another length, end in an error that names the rank", "[comm][host][exchange][failure]") {
  Options options = on_host(3, any_wire());
  options.timeout_ms = 200;
  Bytes memory(100'000);
  const auto error_of = [](Communicator& communicator) -> std::string {
    try {
      communicator.synchronize();
      return "ok";
    } catch (const Error& error) {
      return std::string(name_of(error.code())) + ": " + error.what();
    }
  };
  {
    auto communicators = Communicator::create_local(counted(3), options);
    communicators[1].exchange({}, std::vector<Receive>{{{memory.data(), 100, DataType::uint8}, 2}});
    CHECK_THAT(error_of(communicators[1]), ContainsSubstring("timeout") && ContainsSubstring("rank 2 did not come"));
  }
  // Neighbours, lengths that agree in many of their bits, and some that are cut otherwise or into more lanes.
  const std::pair<std::size_t, std::size_t> lengths[] = {{101, 100}, {100, 101}, {16, 32}, {16 + 32768, 16}, {16, 16 + 32768}, {50'000, 50'000 + 32768}, {64, 90'000}, {90'000, 64}};
  for (const auto& [sent, received] : lengths) {
    CAPTURE(sent, received);
    auto communicators = Communicator::create_local(counted(3), options);
    communicators[2].exchange(std::vector<Send>{{{memory.data(), sent, DataType::uint8}, 1}}, {});
    Bytes out(100'000);
    communicators[1].exchange({}, std::vector<Receive>{{{out.data(), received, DataType::uint8}, 2}});
    CHECK_THAT(error_of(communicators[1]), ContainsSubstring("mismatch") && ContainsSubstring("rank 2"));
  }
  {
    // More than the slots hold, to a rank that leaves.
    auto communicators = Communicator::create_local(counted(3), options);
    std::vector<std::byte> large(8 << 20);
    communicators[0].exchange(std::vector<Send>{{{large.data(), large.size(), DataType::uint8}, 1}}, {});
    CHECK_THAT(error_of(communicators[0]), ContainsSubstring("timeout") && ContainsSubstring("rank 1"));
  }
}

#if COLLECTIVES_HAS_CUDA

namespace {

/// The messages of a round that a rank sends, or those that it receives: one behind the other in its memory, `offset` bytes past an aligned place, with
/// canaries around each.
struct Laid {
  Bytes bytes;
  std::vector<std::size_t> begins;
};

/// `contents` are the messages'; `end` is the one at which the rank is.
Laid lay_out(const std::vector<Planned>& round, const std::vector<Bytes>& contents, int rank, int Planned::*end) {
  constexpr std::size_t line = 256;
  Laid laid;
  for (std::size_t m = 0; m < round.size(); ++m) {
    if (round[m].*end != rank) continue;
    const std::size_t begin = (laid.bytes.size() + guard + line - 1) / line * line + round[m].offset;
    laid.bytes.resize(begin + contents[m].size() + guard, std::byte{0xa5});
    if (!contents[m].empty()) std::memcpy(laid.bytes.data() + begin, contents[m].data(), contents[m].size());
    laid.begins.push_back(begin);
  }
  return laid;
}

/// Of a rank's memory for any of these rounds.
std::size_t room_for(const std::vector<std::vector<Planned>>& rounds, int ranks) {
  std::size_t room = 1;
  for (const auto& round : rounds) {
    std::vector<std::size_t> sent(static_cast<std::size_t>(ranks)), received(sent);
    for (const Planned& message : round)
      for (std::size_t* used : {&sent[static_cast<std::size_t>(message.from)], &received[static_cast<std::size_t>(message.to)]})
        room = std::max(room, *used += message.bytes + 1024);
  }
  return room;
}

/// A round of messages in and out of GPU memory, all ranks driven by this thread. How many ranks have not received what they must.
std::size_t play_on_gpus(Ranks& ranks, const std::vector<Planned>& round) {
  std::vector<Bytes> contents;
  for (const Planned& message : round) contents.push_back(content_of(message));
  std::vector<Laid> sent, expected;
  // All of it first: where ranks share a GPU, a copy may wait for the kernel of one that waits for the next.
  for (int rank = 0; rank < ranks.size(); ++rank) {
    const auto r = static_cast<std::size_t>(rank);
    ranks.in[r].write(sent.emplace_back(lay_out(round, contents, rank, &Planned::from)).bytes);
    ranks.out[r].write(Bytes(expected.emplace_back(lay_out(round, contents, rank, &Planned::to)).bytes.size(), std::byte{0xa5}));
  }
  for (int rank = 0; rank < ranks.size(); ++rank) {
    const auto r = static_cast<std::size_t>(rank);
    std::vector<Send> sends;
    std::vector<Receive> receives;
    for (const Planned& message : round) {
      if (message.from == rank) sends.push_back({{ranks.in[r].data() + sent[r].begins[sends.size()], message.bytes, DataType::uint8}, message.to});
      if (message.to == rank) receives.push_back({{ranks.out[r].data() + expected[r].begins[receives.size()], message.bytes, DataType::uint8}, message.from});
    }
    if (!sends.empty() || !receives.empty()) ranks.communicators[r].exchange(sends, receives, ranks.stream(rank));
  }
  for (int rank = 0; rank < ranks.size(); ++rank) ranks.communicators[static_cast<std::size_t>(rank)].synchronize(ranks.stream(rank));
  std::size_t wrong = 0;
  for (std::size_t r = 0; r < expected.size(); ++r) wrong += ranks.out[r].read(expected[r].bytes.size()) != expected[r].bytes;
  return wrong;
}

}  // namespace

TEST_CASE("messages of any size and pattern arrive as they were sent, on GPUs", "[gpu][exchange]") {
  const int gpus = cuda_device_count();
  REQUIRE(gpus > 0);
  const int ranks = GENERATE(1, 2, 3, 4, 8, 16);
  std::vector<int> devices;
  for (int rank = 0; rank < ranks; ++rank) devices.push_back(rank % gpus);
  Options options;
  options.first_epoch = 0xfffffff0u;
  const auto rounds = random_rounds(ranks, 40, 6 << 20, static_cast<std::uint64_t>(ranks));
  Ranks all(devices, options, room_for(rounds, ranks));
  std::size_t wrong = 0;
  for (const auto& round : rounds) wrong += play_on_gpus(all, round);
  CAPTURE(ranks);
  CHECK(wrong == 0);
}

TEST_CASE("whole packs of every size go round a ring of GPUs, over both wires", "[gpu][exchange]") {
  const int gpus = cuda_device_count();
  REQUIRE(gpus > 0);
  const int ranks = GENERATE(2, 4);
  const auto wire = GENERATE(std::optional<Wire>(), std::optional<Wire>(Wire::flagged), std::optional<Wire>(Wire::sentinel));
  CAPTURE(ranks, wire ? name_of(*wire) : "the planner's");
  std::vector<int> devices;
  for (int rank = 0; rank < ranks; ++rank) devices.push_back(rank % gpus);
  Options options;
  options.first_epoch = 0xfffffff0u;
  options.wire = wire;
  constexpr std::size_t largest = std::size_t{16} << 20;
  Ranks all(devices, options, largest + 1024);
  std::uint64_t seed = 0;
  std::size_t wrong = 0;
  for (std::size_t bytes = 16; bytes <= largest; bytes *= 4)
    for (int turn = 0; turn < (bytes > std::size_t{1} << 20 ? 1 : 4); ++turn)
      for (const std::size_t more : {0, 48}) {
        std::vector<Planned> round;
        for (int rank = 0; rank < ranks; ++rank) round.push_back({rank, (rank + 1) % ranks, bytes + more, 0, scrambled(++seed, 5)});
        wrong += play_on_gpus(all, round);
      }
  CHECK(wrong == 0);
}

TEST_CASE("a message that is not sent, not read, or of another length ends in an error that names the rank, on GPUs", "[gpu][exchange][failure]") {
  const int gpus = cuda_device_count();
  REQUIRE(gpus > 0);
  const std::size_t most_bytes = std::size_t{64} << 20;
  Options options;
  options.timeout_ms = 300;
  Ranks ranks({0, 1 % gpus, 2 % gpus}, options, most_bytes);
  const auto send = [&](int rank, std::size_t bytes, int to) {
    const auto r = static_cast<std::size_t>(rank);
    ranks.communicators[r].exchange(std::vector<Send>{{{ranks.in[r].data(), bytes, DataType::uint8}, to}}, {}, ranks.stream(rank));
  };
  const auto receive = [&](int rank, std::size_t bytes, int from) {
    const auto r = static_cast<std::size_t>(rank);
    ranks.communicators[r].exchange({}, std::vector<Receive>{{{ranks.out[r].data(), bytes, DataType::uint8}, from}}, ranks.stream(rank));
  };
  const auto fails_with = [&](int rank, const std::string& what) {
    CHECK_THROWS_WITH(ranks.communicators[static_cast<std::size_t>(rank)].synchronize(ranks.stream(rank)), ContainsSubstring(what));
  };
  SECTION("not sent") {
    receive(1, 100, 2);
    fails_with(1, "rank 2 did not come");
  }
  SECTION("of another length") {
    send(2, 101, 1);
    receive(1, 100, 2);
    fails_with(1, "rank 2");
  }
  SECTION("not read") {
    send(0, most_bytes, 1);
    fails_with(0, "rank 1");
  }
}

#endif
