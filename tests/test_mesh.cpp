#include <fmt/format.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "base/require.hpp"
#include "memory/shared_memory.hpp"
#include "ranks.hpp"
#include "test.hpp"
#include "transport/mesh.hpp"
#include "transport/unique_id.hpp"
#include "variable.hpp"

using namespace collectives;

namespace {

constexpr std::uint32_t patience_ms = 60'000;

std::string directory_of(const UniqueId& id) { return read_unique_id(id).directory; }

std::vector<std::uint8_t> bytes_of_rank(int rank, std::size_t count, int call) {
  std::vector<std::uint8_t> bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::uint8_t>(131 * rank + 17 * call + i * 7 + i / 251);
  return bytes;
}

/// Speaks to `path` as no rank does, and hangs on to the connection.
FileDescriptor intrude(const std::string& path, const std::string& text) {
  FileDescriptor socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return {};
  if (!text.empty()) (void)::send(socket.get(), text.data(), text.size(), MSG_NOSIGNAL);
  return socket;
}

void wait_for_file(const std::string& path) {
  while (!std::filesystem::exists(path)) std::this_thread::yield();
}

}  // namespace

TEST_CASE("ids that nobody has used leave no directory behind when their process ends", "[transport][mesh]") {
  const auto parent = std::filesystem::temp_directory_path() / fmt::format("unused-ids-{}", ::getpid());
  REQUIRE(std::filesystem::create_directory(parent));
  const auto left = [&] { return std::distance(std::filesystem::directory_iterator(parent), std::filesystem::directory_iterator()); };
  const Variable runtime("XDG_RUNTIME_DIR", parent.string());
  (void)std::fflush(nullptr);
  const pid_t maker = ::fork();
  REQUIRE(maker >= 0);
  if (maker == 0) {
    const std::string unused = directory_of(make_unique_id()), used = directory_of(make_unique_id());
    std::ofstream(used + "/0");  // where a rank waits
    // A child's end takes nothing of its parent's away, whether it has made ids of its own or not.
    for (const bool makes_one : {false, true}) {
      const pid_t child = ::fork();
      if (child == 0) {
        if (makes_one) (void)make_unique_id();
        std::exit(0);
      }
      ::waitpid(child, nullptr, 0);
    }
    if (left() != 2 || !std::filesystem::exists(unused) || !std::filesystem::exists(used)) ::_exit(1);
    std::exit(0);
  }
  int status = -1;
  REQUIRE(::waitpid(maker, &status, 0) == maker);
  CHECK(status == 0);
  CHECK(left() == 1);
  std::filesystem::remove_all(parent);
}

TEST_CASE("ranks gather every rank's bytes, as processes and as threads", "[transport][mesh]") {
  const auto kind = GENERATE(RanksAre::threads, RanksAre::processes);
  const int size = GENERATE(1, 2, 3, 4, 6);
  const UniqueId id = make_unique_id();
  const auto before = open_descriptors();
  const auto outcomes = run_ranks(kind, size, [&](int rank) {
    Mesh mesh = Mesh::join(id, rank, size, patience_ms);
    require(mesh.rank() == rank && mesh.size() == size, "the mesh knows its rank and size");
    // More than one frame, and more than a socket holds.
    int call = 0;
    for (const std::size_t count :
         {std::size_t{0}, std::size_t{1}, std::size_t{4096}, std::size_t{60 * 1024}, std::size_t{60 * 1024 + 1}, std::size_t{1} << 20}) {
      const auto all = mesh.all_gather(bytes_of_rank(rank, count, ++call));
      for (int peer = 0; peer < size; ++peer)
        require(all[peer] == bytes_of_rank(peer, count, call), fmt::format("{} bytes of rank {} came to rank {}", count, peer, rank));
    }
    mesh.barrier();
  });
  for (const auto& outcome : outcomes) CHECK(outcome == "ok");
  CHECK_FALSE(std::filesystem::exists(directory_of(id)));
  CHECK(open_descriptors() == before);
}

TEST_CASE("ranks exchange descriptors of each other's memory", "[transport][mesh]") {
  const auto kind = GENERATE(RanksAre::threads, RanksAre::processes);
  const int size = 3;
  const UniqueId id = make_unique_id();
  const auto before = open_descriptors();
  const auto outcomes = run_ranks(kind, size, [&](int rank) {
    Mesh mesh = Mesh::join(id, rank, size, patience_ms);
    const auto mine = SharedMemory::create(4096);
    mine.base()[0] = std::byte(100 + rank);
    const auto theirs = mesh.exchange(mine.descriptor());
    for (int peer = 0; peer < size; ++peer) {
      require(static_cast<bool>(theirs[peer]) == (peer != rank), "a descriptor of every other rank and none of this one");
      if (peer == rank) continue;
      require((::fcntl(theirs[peer].get(), F_GETFD) & FD_CLOEXEC) != 0, "received descriptors close on exec");
      auto memory = SharedMemory::map(theirs[peer], 4096);
      require(memory.base()[0] == std::byte(100 + peer), "it is that rank's memory");
      memory.base()[1 + rank] = std::byte(rank + 1);
    }
    mesh.barrier();
    for (int peer = 0; peer < size; ++peer)
      require(peer == rank || mine.base()[1 + peer] == std::byte(peer + 1), "what a peer wrote is here");
    // A rank may have nothing to give.
    const auto some = mesh.exchange(rank == 1 ? FileDescriptor() : duplicate(mine.descriptor()));
    for (int peer = 0; peer < size; ++peer) require(static_cast<bool>(some[peer]) == (peer != rank && peer != 1), "rank 1 gave nothing");
  });
  for (const auto& outcome : outcomes) CHECK(outcome == "ok");
  CHECK(open_descriptors() == before);
}

TEST_CASE("a killed rank is noticed within a second", "[transport][mesh]") {
  const UniqueId id = make_unique_id();
  RankProcess victim(
      [&](int rank) {
        Mesh mesh = Mesh::join(id, rank, 3, patience_ms);
        mesh.barrier();
        ::pause();
      },
      1);
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const FileDescriptor wait_here(ends[0]), go_on(ends[1]);
  RankProcess other(
      [&](int rank) {
        Mesh mesh = Mesh::join(id, rank, 3, patience_ms);
        mesh.barrier();
        char byte = 0;
        require(::read(wait_here.get(), &byte, 1) == 1, "rank 0 has looked");
        mesh.all_gather(bytes_of_rank(rank, 16, 0));
      },
      2);
  Mesh mesh = Mesh::join(id, 0, 3, patience_ms);
  mesh.barrier();
  CHECK_FALSE(mesh.lost_peer().has_value());
  const auto killed = std::chrono::steady_clock::now();
  REQUIRE(::kill(victim.pid, SIGKILL) == 0);
  std::optional<int> lost;
  while (!lost && std::chrono::steady_clock::now() - killed < std::chrono::seconds(10)) lost = mesh.lost_peer();
  CHECK(std::chrono::steady_clock::now() - killed < std::chrono::seconds(1));
  CHECK(lost.value_or(-1) == 1);
  REQUIRE(::write(go_on.get(), "g", 1) == 1);
  // Who waits for it says so, and who waits for the one that left because of it names the dead one too.
  CHECK_THROWS_WITH(mesh.all_gather(bytes_of_rank(0, 16, 0)), ContainsSubstring("rank 1 is gone"));
  CHECK_THAT(other.outcome(), ContainsSubstring("peer lost: ") && ContainsSubstring("rank 1 is gone"));
  CHECK(victim.outcome().empty());
}

TEST_CASE("lost_peer leaves unread frames in place", "[transport][mesh]") {
  const UniqueId id = make_unique_id();
  std::atomic<bool> sent = false;
  const auto outcomes = run_ranks(RanksAre::threads, 2, [&](int rank) {
    Mesh mesh = Mesh::join(id, rank, 2, patience_ms);
    if (rank == 1) {
      sent = true;
      mesh.all_gather(bytes_of_rank(1, 8, 0));
      mesh.barrier();
      return;
    }
    while (!sent) std::this_thread::yield();
    for (int i = 0; i < 1000; ++i) require(!mesh.lost_peer(), "nobody left");
    require(mesh.all_gather(bytes_of_rank(0, 8, 0))[1] == bytes_of_rank(1, 8, 0), "the frame was still there");
    mesh.barrier();
  });
  for (const auto& outcome : outcomes) CHECK(outcome == "ok");
}

TEST_CASE("a join that times out names the ranks that have not come, on every rank that has", "[transport][mesh]") {
  const auto kind = GENERATE(RanksAre::threads, RanksAre::processes);
  const UniqueId id = make_unique_id();
  const auto before = open_descriptors();
  const auto outcomes = run_ranks(kind, 3, [&](int rank) {
    const int present[] = {0, 2, 3};
    Mesh::join(id, present[rank], 5, 300);
  });
  for (const auto& outcome : outcomes) CHECK_THAT(outcome, ContainsSubstring("timeout: ") && ContainsSubstring("within 300 ms: 1, 4"));
  CHECK_FALSE(std::filesystem::exists(directory_of(id)));
  CHECK(open_descriptors() == before);
  CHECK_THROWS_WITH(Mesh::join(id, 1, 5, 300), ContainsSubstring("is gone"));
}

TEST_CASE("a call that a rank does not make times out and names it", "[transport][mesh]") {
  const UniqueId id = make_unique_id();
  std::atomic<int> over = 0;
  const auto outcomes = run_ranks(RanksAre::threads, 3, [&](int rank) {
    Mesh mesh = Mesh::join(id, rank, 3, rank == 2 ? patience_ms : 1000);
    if (rank == 2) {
      while (over < 2) std::this_thread::yield();
      return;
    }
    const std::string outcome = outcome_of([&](int) { mesh.barrier(); }, rank);
    ++over;
    // Not before both have seen it: a rank that leaves is another error.
    while (over < 2) std::this_thread::yield();
    throw Error(ErrorCode::timeout, outcome);
  });
  CHECK(outcomes[2] == "ok");
  for (int rank = 0; rank < 2; ++rank)
    CHECK_THAT(outcomes[rank], ContainsSubstring("timeout: ") && ContainsSubstring("no answer from rank 2 to barrier"));
}

TEST_CASE("different calls are a mismatch on every rank", "[transport][mesh]") {
  const UniqueId id = make_unique_id();
  SECTION("another call") {
    const auto outcomes = run_ranks(RanksAre::threads, 2, [&](int rank) {
      Mesh mesh = Mesh::join(id, rank, 2, patience_ms);
      if (rank == 0) mesh.barrier();
      mesh.all_gather(bytes_of_rank(rank, 4, 0));
    });
    for (const auto& outcome : outcomes) CHECK_THAT(outcome, ContainsSubstring("mismatched calls: "));
  }
  SECTION("another number of bytes") {
    const auto outcomes = run_ranks(RanksAre::threads, 2, [&](int rank) {
      Mesh mesh = Mesh::join(id, rank, 2, patience_ms);
      mesh.all_gather(bytes_of_rank(rank, 4 + rank, 0));
    });
    for (const auto& outcome : outcomes) CHECK_THAT(outcome, ContainsSubstring("mismatched calls: "));
  }
}

TEST_CASE("a rank that comes twice is refused and the others are not disturbed", "[transport][mesh]") {
  const UniqueId id = make_unique_id();
  RankProcess first([&](int rank) { Mesh::join(id, rank, 2, patience_ms).barrier(); }, 1);
  wait_for_file(directory_of(id) + "/1");
  CHECK_THROWS_WITH(Mesh::join(id, 1, 2, patience_ms), ContainsSubstring("rank 1 has come already: a duplicate rank"));
  Mesh::join(id, 0, 2, patience_ms).barrier();
  CHECK(first.outcome() == "ok");
  CHECK_FALSE(std::filesystem::exists(directory_of(id)));
}

TEST_CASE("ranks that were told different sizes both say so", "[transport][mesh]") {
  const UniqueId id = make_unique_id();
  const auto outcomes = run_ranks(RanksAre::processes, 2, [&](int rank) { Mesh::join(id, rank, 2 + rank, patience_ms); });
  for (const auto& outcome : outcomes)
    CHECK_THAT(outcome, ContainsSubstring("invalid argument: ") && ContainsSubstring("of 2") && ContainsSubstring("of 3"));
  CHECK_FALSE(std::filesystem::exists(directory_of(id)));
}

TEST_CASE("a rank that dies while the ranks meet is named at once", "[transport][mesh]") {
  const UniqueId id = make_unique_id();
  RankProcess victim([&](int rank) { Mesh::join(id, rank, 3, patience_ms); }, 1);
  RankProcess survivor([&](int rank) { Mesh::join(id, rank, 3, patience_ms); }, 0);
  wait_for_file(directory_of(id) + "/0");
  wait_for_file(directory_of(id) + "/1");
  // Rank 0 notices only a peer it has met; before that it waits for rank 1 as for rank 2. So rank 1 gets time to be met.
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  REQUIRE(::kill(victim.pid, SIGKILL) == 0);
  CHECK_THAT(survivor.outcome(), ContainsSubstring("peer lost: rank 1 left"));
  CHECK(victim.outcome().empty());
  CHECK_FALSE(std::filesystem::exists(directory_of(id)));
}

TEST_CASE("garbage connections do not disturb a join", "[transport][mesh]") {
  const UniqueId id = make_unique_id();
  const std::string directory = directory_of(id);
  const auto before = open_descriptors();
  std::atomic<bool> met = false;
  std::atomic<int> intrusions = 0;
  std::thread intruder([&] {
    wait_for_file(directory + "/0");
    const MeetingPlace place = read_unique_id(id);
    Hello wrong = make_hello({}, 1, 3);
    const std::string stranger(reinterpret_cast<const char*>(&wrong), sizeof wrong);
    const std::string texts[] = {"", "GET / HTTP/1.1\r\n\r\n", stranger, std::string(60'000, 'x')};
    std::vector<FileDescriptor> held;
    for (int i = 0; i < 1000 || (!met && i < 100'000); ++i) {
      auto socket = intrude(directory + "/0", texts[i % 4]);
      if (socket) ++intrusions;
      if (held.size() < 100) held.push_back(std::move(socket));
    }
  });
  std::vector<std::string> outcomes;
  std::thread ranks([&] {
    outcomes = run_ranks(RanksAre::threads, 3, [&](int rank) {
      // The flood is on before the second rank comes.
      while (rank > 0 && intrusions < 200) std::this_thread::yield();
      Mesh mesh = Mesh::join(id, rank, 3, patience_ms);
      require(mesh.all_gather(bytes_of_rank(rank, 99, 0))[1] == bytes_of_rank(1, 99, 0), "the mesh works");
    });
    met = true;
  });
  ranks.join();
  intruder.join();
  for (const auto& outcome : outcomes) CHECK(outcome == "ok");
  CHECK(intrusions >= 200);
  CHECK_FALSE(std::filesystem::exists(directory));
  CHECK(open_descriptors() == before);
}

TEST_CASE("a rank of another build is refused as such, by both", "[transport][mesh]") {
  const UniqueId id = make_unique_id();
  const MeetingPlace place = read_unique_id(id);
  std::vector<std::string> outcomes;
  std::thread rank([&] { outcomes = run_ranks(RanksAre::threads, 1, [&](int) { Mesh::join(id, 0, 2, patience_ms); }); });
  wait_for_file(place.directory + "/0");
  Hello other = make_hello(place.secret, 1, 2);
  ++other.abi;
  FileDescriptor socket;
  while (!socket) socket = intrude(place.directory + "/0", std::string(reinterpret_cast<const char*>(&other), sizeof other));
  rank.join();
  CHECK_THAT(outcomes.at(0), ContainsSubstring("unsupported: ") && ContainsSubstring("another build"));
  // The refused side has the answer to judge by.
  std::uint8_t answer[1024];
  const Received received = receive_message(socket, answer);
  CHECK(read_hello({answer, received.bytes}, place.secret).value_or(Hello{}).rank == 0);
}

TEST_CASE("arguments of a join are checked", "[transport][mesh]") {
  const UniqueId id = make_unique_id();
  CHECK_THROWS_WITH(Mesh::join(id, 2, 2, 100), ContainsSubstring("rank 2 of 2"));
  CHECK_THROWS_WITH(Mesh::join(id, -1, 2, 100), ContainsSubstring("rank -1"));
  CHECK_THROWS_WITH(Mesh::join(id, 0, 17, 100), ContainsSubstring("17 ranks"));
  CHECK_THROWS_WITH(Mesh::join(id, 0, 0, 100), ContainsSubstring("0 ranks"));
  CHECK_THROWS_WITH(Mesh::join(UniqueId{}, 0, 2, 100), ContainsSubstring("unique id"));
  for (std::size_t i = 0; i < id.bytes.size(); ++i) {
    CAPTURE(i);
    UniqueId damaged = id;
    damaged.bytes[i] ^= 1;
    CHECK_THROWS_AS(Mesh::join(damaged, 0, 2, 100), Error);
    CHECK_THROWS_WITH(Mesh::join(damaged, 0, 2, 100), ContainsSubstring("damaged"));
  }
  SECTION("a directory that others can enter is refused") {
    REQUIRE(::chmod(directory_of(id).c_str(), 0750) == 0);
    CHECK_THROWS_WITH(Mesh::join(id, 0, 1, 100), ContainsSubstring("not private"));
  }
  SECTION("a link in place of the directory is refused") {
    std::filesystem::rename(directory_of(id), directory_of(id) + "x");
    std::filesystem::create_directory_symlink(directory_of(id) + "x", directory_of(id));
    CHECK_THROWS_WITH(Mesh::join(id, 0, 1, 100), ContainsSubstring("not private"));
    std::filesystem::remove(directory_of(id) + "x");
  }
  std::filesystem::remove(directory_of(id));
}

TEST_CASE("an id's directory is private, and made where the environment says if that can be", "[transport][unique_id]") {
  const UniqueId first = make_unique_id();
  const UniqueId second = make_unique_id();
  CHECK(directory_of(first) != directory_of(second));
  CHECK(read_unique_id(first).secret != read_unique_id(second).secret);
  struct stat status {};
  REQUIRE(::stat(directory_of(first).c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0700);
  CHECK(status.st_uid == ::geteuid());
  const std::string chosen = directory_of(first);
  ::setenv("XDG_RUNTIME_DIR", chosen.c_str(), 1);
  const UniqueId third = make_unique_id();
  CHECK(directory_of(third).starts_with(chosen + "/"));
  ::setenv("XDG_RUNTIME_DIR", "/nowhere/at/all", 1);
  const UniqueId fourth = make_unique_id();
  CHECK_FALSE(directory_of(fourth).starts_with("/nowhere"));
  ::setenv("XDG_RUNTIME_DIR", ("/tmp/" + std::string(90, 'l')).c_str(), 1);
  const UniqueId fifth = make_unique_id();
  CHECK(directory_of(fifth).size() <= longest_meeting_directory);
  ::unsetenv("XDG_RUNTIME_DIR");
  for (const auto& id : {third, second, fourth, fifth, first}) CHECK(std::filesystem::remove(directory_of(id)));
}
