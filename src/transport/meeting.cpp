#include "transport/meeting.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/require.hpp"

namespace collectives {
namespace {

/// Callers that may be silent at a time. One more drops the oldest: a rank speaks as soon as it has called, and calls again if dropped.
constexpr std::size_t max_strangers = 32;
constexpr std::uint32_t stranger_timeout_ms = 5000;
constexpr int longest_pause_ms = 16;
constexpr std::size_t greeting_bytes = 1024;  ///< holds any hello and any farewell

void check_directory(const std::string& path) {
  struct stat status {};
  const int result = ::lstat(path.c_str(), &status);
  require(result == 0 || errno != ENOENT,
          [&] { return fmt::format("the meeting directory {} of this unique id is gone: an id forms one communicator, once, and ends with the process that made it", path); });
  system_check(result, "stat of " + path);
  require(S_ISDIR(status.st_mode) && status.st_uid == ::geteuid() && (status.st_mode & 077) == 0,
          [&] { return fmt::format("the meeting directory {} is not private: expected a directory of this user with mode 0700", path); });
}

}  // namespace

Meeting::Meeting(const MeetingPlace& place, int rank, int size, std::uint32_t timeout_ms)
    : place_(place), rank_(rank), size_(size), timeout_ms_(timeout_ms), deadline_(timeout_ms), calls_(size), peers_(size), waiting_(size) {
  check_directory(place.directory);
  auto listener = listen_at(name_of_rank(rank));
  require(listener.has_value(), [&] { return fmt::format("rank {} has come already: a duplicate rank, or an id used twice", rank); });
  listener_ = std::move(*listener);
}

Meeting::~Meeting() {
  // A rank that was killed cannot take its own name away.
  for (int rank = 0; rank < size_; ++rank)
    if (met_all_ || rank == rank_ || (peers_[rank] && is_gone(peers_[rank]))) ::unlink(name_of_rank(rank).c_str());
  // Fails while others are still there; the last one succeeds.
  ::rmdir(place_.directory.c_str());
}

std::vector<FileDescriptor> Meeting::meet() {
  while (missing() > 0) {
    if (deadline_.passed()) give_up_missing();
    call_lower_ranks();
    wait_for_news();
    for (int rank = 0; rank < rank_; ++rank) read_answer(rank);
    answer_callers();
    read_strangers();
    for (int rank = 0; rank < size_; ++rank) watch_peer(rank);
  }
  met_all_ = true;
  return std::exchange(peers_, std::vector<FileDescriptor>(size_));
}

std::string Meeting::name_of_rank(int rank) const { return fmt::format("{}/{}", place_.directory, rank); }

int Meeting::missing() const {
  return size_ - 1 - static_cast<int>(std::count_if(peers_.begin(), peers_.end(), [](const auto& peer) { return bool(peer); }));
}

void Meeting::call_lower_ranks() {
  for (int rank = 0; rank < rank_; ++rank) {
    if (peers_[rank] || calls_[rank]) continue;
    auto socket = call(name_of_rank(rank));
    if (!socket || !is_same_user(*socket)) continue;
    const Hello hello = make_hello(place_.secret, rank_, size_);
    if (send_message(*socket, bytes_of(hello)) == SocketOutcome::done) calls_[rank] = std::move(*socket);
  }
}

void Meeting::read_answer(int rank) {
  if (!calls_[rank]) return;
  std::uint8_t buffer[greeting_bytes];
  const Received received = receive_message(calls_[rank], buffer);
  if (received.outcome == SocketOutcome::later) return;
  FileDescriptor socket;
  socket = std::move(calls_[rank]);
  if (received.outcome != SocketOutcome::done || !received.descriptors.empty()) return;
  const auto hello = read_hello({buffer, received.bytes}, place_.secret);
  if (!hello) return;
  check_agreement(*hello);
  if (hello->rank == rank) peers_[rank] = std::move(socket);
}

void Meeting::answer_callers() {
  // As many as may be silent at a time, so that a flood of callers does not keep this rank from its peers.
  for (std::size_t i = 0; i < max_strangers; ++i) {
    auto socket = answer(listener_);
    if (!socket) return;
    if (!is_same_user(*socket)) continue;
    if (strangers_.size() == max_strangers) {
      // What has already spoken is read before anything is dropped.
      read_strangers();
      if (strangers_.size() == max_strangers) strangers_.erase(strangers_.begin());
    }
    strangers_.push_back({std::move(*socket), Deadline(stranger_timeout_ms)});
  }
}

void Meeting::read_strangers() {
  std::vector<Stranger> silent;
  for (auto& stranger : strangers_) {
    std::uint8_t buffer[greeting_bytes];
    const Received received = receive_message(stranger.socket, buffer);
    if (received.outcome == SocketOutcome::later) {
      if (!stranger.deadline.passed()) silent.push_back(std::move(stranger));
      continue;
    }
    if (received.outcome != SocketOutcome::done || !received.descriptors.empty()) continue;
    const auto hello = read_hello({buffer, received.bytes}, place_.secret);
    if (!hello) continue;
    // The answer comes before the judgement, so that both sides can see what they disagree on.
    const Hello mine = make_hello(place_.secret, rank_, size_);
    if (send_message(stranger.socket, bytes_of(mine)) != SocketOutcome::done) continue;
    check_agreement(*hello);
    if (hello->rank > rank_ && hello->rank < size_ && !peers_[hello->rank]) peers_[hello->rank] = std::move(stranger.socket);
  }
  strangers_ = std::move(silent);
}

/// A peer that was met can say farewell, or die, before everyone has come.
void Meeting::watch_peer(int rank) {
  if (!peers_[rank]) return;
  std::uint8_t buffer[greeting_bytes];
  if (!waiting_[rank]) {
    const Received received = receive_message(peers_[rank], buffer, true);
    if (received.outcome == SocketOutcome::later) return;
    const auto header = received.outcome == SocketOutcome::done ? read_header({buffer, received.bytes}) : std::nullopt;
    if (header && header->type == FrameType::farewell) {
      const Error error = read_farewell({buffer, received.bytes}, rank);
      give_up(error.code(), error.what());
    }
    // Whatever else it is, the first round of frames reads and judges it.
    waiting_[rank] = received.outcome == SocketOutcome::done;
  }
  if (is_gone(peers_[rank])) give_up(ErrorCode::peer_lost, fmt::format("rank {} left while the ranks were meeting", rank));
}

void Meeting::wait_for_news() {
  std::vector<pollfd> sockets{{listener_.get(), POLLIN, 0}};
  bool someone_does_not_listen = false;
  for (int rank = 0; rank < size_; ++rank) {
    if (calls_[rank]) sockets.push_back({calls_[rank].get(), POLLIN, 0});
    if (peers_[rank]) sockets.push_back({peers_[rank].get(), static_cast<short>(waiting_[rank] ? 0 : POLLIN), 0});
    if (rank < rank_ && !calls_[rank] && !peers_[rank]) someone_does_not_listen = true;
  }
  for (const auto& stranger : strangers_) sockets.push_back({stranger.socket.get(), POLLIN, 0});
  int limit = 1000;
  if (someone_does_not_listen) {
    limit = pause_ms_;
    pause_ms_ = std::min(2 * pause_ms_, longest_pause_ms);
  }
  if (!strangers_.empty()) limit = std::min(limit, strangers_.front().deadline.left_ms(limit));
  wait(sockets, deadline_.left_ms(limit));
}

void Meeting::check_agreement(const Hello& hello) {
  if (hello.rank == -1)
    give_up(ErrorCode::unsupported, "a rank runs another build of this library: expected the same one in every process");
  if (hello.size != size_)
    give_up(ErrorCode::invalid_argument,
            fmt::format("rank {} was told of {} ranks, rank {} of {}: expected one number of ranks", hello.rank, hello.size, rank_, size_));
}

void Meeting::give_up(ErrorCode code, const std::string& message) {
  const auto farewell = make_farewell(code, message);
  for (const auto& peer : peers_)
    if (peer) (void)send_message(peer, farewell);
  throw Error(code, message);
}

void Meeting::give_up_missing() {
  std::string names;
  for (int rank = 0; rank < size_; ++rank)
    if (rank != rank_ && !peers_[rank]) names += fmt::format("{}{}", names.empty() ? "" : ", ", rank);
  give_up(ErrorCode::timeout,
          fmt::format("of {} ranks, these have not come to rank {} within {} ms: {}", size_, rank_, timeout_ms_, names));
}

}  // namespace collectives
