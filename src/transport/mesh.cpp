#include "transport/mesh.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/require.hpp"
#include "transport/meeting.hpp"

namespace collectives {
namespace {

FrameHeader header_of(FrameType type, std::uint32_t round, std::size_t bytes, std::uint64_t total, bool descriptor) {
  return {.type = type,
          .descriptors = static_cast<std::uint16_t>(descriptor ? 1 : 0),
          .call = round,
          .bytes = static_cast<std::uint32_t>(bytes),
          .total = total};
}

/// Is a farewell the next thing to be read? Leaves it there.
bool has_left(const FileDescriptor& socket) {
  std::uint8_t buffer[1024];
  const Received received = receive_message(socket, buffer, true);
  if (received.outcome != SocketOutcome::done) return false;
  const auto header = read_header({buffer, received.bytes});
  return header && header->type == FrameType::farewell;
}

}  // namespace

Mesh::Mesh(int rank, std::uint32_t timeout_ms, std::vector<FileDescriptor> peers)
    : rank_(rank), timeout_ms_(timeout_ms), peers_(std::move(peers)) {}

Mesh Mesh::join(const UniqueId& id, int rank, int size, std::uint32_t timeout_ms) {
  require(size >= 1 && size <= max_ranks, [&] { return fmt::format("{} ranks: expected 1 to {}", size, max_ranks); });
  require(rank >= 0 && rank < size, [&] { return fmt::format("rank {} of {}: expected 0 to {}", rank, size, size - 1); });
  Meeting meeting(read_unique_id(id), rank, size, timeout_ms);
  Mesh mesh(rank, timeout_ms, meeting.meet());
  // The names in the directory go when `meeting` does: not before the last pair has met.
  mesh.round(FrameType::barrier, {}, 0, {}, meeting.deadline());
  return mesh;
}

std::vector<std::vector<std::uint8_t>> Mesh::all_gather(std::span<const std::uint8_t> mine) {
  const Deadline deadline(timeout_ms_);
  std::vector<std::vector<std::uint8_t>> all(size());
  all[rank_].assign(mine.begin(), mine.end());
  std::size_t offset = 0;
  do {
    const auto part = mine.subspan(offset, std::min(max_frame_payload, mine.size() - offset));
    const auto frames = round(FrameType::all_gather, part, mine.size(), {}, deadline);
    for (int peer = 0; peer < size(); ++peer)
      if (peer != rank_) all[peer].insert(all[peer].end(), frames[peer].payload.begin(), frames[peer].payload.end());
    offset += part.size();
  } while (offset < mine.size());
  return all;
}

std::vector<FileDescriptor> Mesh::exchange(const FileDescriptor& mine) {
  auto frames = round(FrameType::exchange, {}, 0, mine, Deadline(timeout_ms_));
  std::vector<FileDescriptor> descriptors;
  for (auto& frame : frames) descriptors.push_back(std::move(frame.descriptor));
  return descriptors;
}

void Mesh::barrier() { round(FrameType::barrier, {}, 0, {}, Deadline(timeout_ms_)); }

void Mesh::send(int to, std::span<const std::uint8_t> letter) {
  ensure(letter.size() <= max_frame_payload, "a letter is one frame");
  const FrameHeader header = header_of(FrameType::letter, 0, letter.size(), letter.size(), false);
  const Deadline deadline(timeout_ms_);
  for (;;) {
    const SocketOutcome outcome = send_message(peers_[to], bytes_of(header), letter);
    if (outcome == SocketOutcome::done) return;
    require(outcome == SocketOutcome::later, [&] { return fmt::format("rank {} is gone: nothing can be sent to it", to); }, ErrorCode::peer_lost);
    require(!deadline.passed(), [&] { return fmt::format("rank {} took no letter within {} ms", to, timeout_ms_); }, ErrorCode::timeout);
    pollfd writable{peers_[to].get(), POLLOUT, 0};
    wait({&writable, 1}, deadline.left_ms(1000));
  }
}

std::vector<std::uint8_t> Mesh::receive(int from, std::size_t bytes) {
  const FrameHeader expected = header_of(FrameType::letter, 0, bytes, bytes, false);
  std::vector<std::uint8_t> buffer(sizeof(FrameHeader) + max_frame_payload);
  const Deadline deadline(timeout_ms_);
  for (;;) {
    if (auto frame = receive_frame(from, expected, buffer)) return std::move(frame->payload);
    require(!deadline.passed(), [&] { return fmt::format("no letter from rank {} within {} ms", from, timeout_ms_); }, ErrorCode::timeout);
    pollfd readable{peers_[from].get(), POLLIN, 0};
    wait({&readable, 1}, deadline.left_ms(1000));
  }
}

std::optional<int> Mesh::lost_peer() const {
  std::vector<pollfd> sockets;
  // poll skips the negative descriptor at this rank's own place.
  for (const auto& peer : peers_) sockets.push_back({peer.get(), POLLRDHUP, 0});
  wait(sockets, 0);
  for (int peer = 0; peer < size(); ++peer)
    if ((sockets[peer].revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0 && !has_left(peers_[peer])) return peer;
  return std::nullopt;
}

std::uint32_t Mesh::left_peers() const {
  std::uint32_t left = 0;
  for (int peer = 0; peer < size(); ++peer)
    if (peers_[peer] && has_left(peers_[peer])) left |= 1u << peer;
  return left;
}

void Mesh::leave() const {
  const auto farewell = make_farewell(ErrorCode::peer_lost, fmt::format("rank {} has left", rank_));
  for (const auto& peer : peers_)
    if (peer) (void)send_message(peer, farewell);
}

// Sending and receiving go on side by side, so that full sockets cannot make two ranks wait for each other.
std::vector<Mesh::Frame> Mesh::round(FrameType type, std::span<const std::uint8_t> payload, std::uint64_t total,
                                     const FileDescriptor& descriptor, const Deadline& deadline) {
  const FrameHeader mine = header_of(type, rounds_++, payload.size(), total, static_cast<bool>(descriptor));
  std::vector<Frame> frames(size());
  std::vector<bool> sent(size()), received(size());
  sent[rank_] = received[rank_] = true;
  std::vector<std::uint8_t> buffer(sizeof(FrameHeader) + max_frame_payload);
  for (;;) {
    std::vector<pollfd> open;
    std::string waited_for;
    for (int peer = 0; peer < size(); ++peer) {
      if (!received[peer]) {
        auto frame = receive_frame(peer, mine, buffer);
        received[peer] = frame.has_value();
        if (frame) frames[peer] = std::move(*frame);
      }
      if (!sent[peer]) {
        const SocketOutcome outcome = send_message(peers_[peer], bytes_of(mine), payload, descriptor);
        if (outcome == SocketOutcome::gone) mourn(peer, mine, buffer);
        sent[peer] = outcome == SocketOutcome::done;
      }
      const short events = static_cast<short>((sent[peer] ? 0 : POLLOUT) | (received[peer] ? 0 : POLLIN));
      if (events == 0) continue;
      open.push_back({peers_[peer].get(), events, 0});
      waited_for += fmt::format("{}{}", waited_for.empty() ? "" : ", ", peer);
    }
    if (open.empty()) return frames;
    if (deadline.passed())
      fail(ErrorCode::timeout,
           fmt::format("no answer from rank {} to {} {} within {} ms", waited_for, name_of(type), mine.call, timeout_ms_));
    wait(open, deadline.left_ms(1000));
  }
}

std::optional<Mesh::Frame> Mesh::receive_frame(int peer, const FrameHeader& mine, std::span<std::uint8_t> buffer) const {
  Received received = receive_message(peers_[peer], buffer);
  if (received.outcome == SocketOutcome::later) return std::nullopt;
  if (received.outcome == SocketOutcome::gone) lose(peer, mine);
  const auto bytes = buffer.first(received.bytes);
  const auto header = received.outcome == SocketOutcome::done ? read_header(bytes) : std::nullopt;
  if (!header || header->descriptors != received.descriptors.size() || header->descriptors > 1)
    fail(ErrorCode::system,
         fmt::format("rank {} sent a damaged frame, or a descriptor that this process has no room for (ulimit -n)", peer));
  pass_on_farewell(peer, bytes);
  check_header(*header, mine, peer);
  Frame frame{{bytes.begin() + sizeof(FrameHeader), bytes.end()}, {}};
  if (!received.descriptors.empty()) frame.descriptor = std::move(received.descriptors.front());
  return frame;
}

void Mesh::check_header(const FrameHeader& theirs, const FrameHeader& mine, int peer) const {
  if (theirs.type != mine.type || theirs.call != mine.call)
    fail(ErrorCode::mismatch, fmt::format("rank {} makes {} {}, rank {} makes {} {}: expected the same calls in the same order", peer,
                                          name_of(theirs.type), theirs.call, rank_, name_of(mine.type), mine.call));
  if (theirs.total != mine.total || theirs.bytes != mine.bytes)
    fail(ErrorCode::mismatch, fmt::format("rank {} gives {} bytes to {} {}, rank {} gives {}: expected equally many", peer, theirs.total,
                                          name_of(mine.type), mine.call, rank_, mine.total));
}

void Mesh::mourn(int peer, const FrameHeader& mine, std::span<std::uint8_t> buffer) const {
  for (;;) {
    const Received received = receive_message(peers_[peer], buffer);
    if (received.outcome != SocketOutcome::done) lose(peer, mine);
    pass_on_farewell(peer, buffer.first(received.bytes));
  }
}

void Mesh::pass_on_farewell(int peer, std::span<const std::uint8_t> bytes) const {
  const auto header = read_header(bytes);
  if (!header || header->type != FrameType::farewell) return;
  const Error error = read_farewell(bytes, peer);
  fail(error.code(), error.what());
}

void Mesh::lose(int peer, const FrameHeader& mine) const {
  fail(ErrorCode::peer_lost, fmt::format("rank {} is gone: it left before {} {} was complete", peer, name_of(mine.type), mine.call));
}

// Without the reason, those who wait for this rank would name it and not the one that began.
void Mesh::fail(ErrorCode code, const std::string& message) const {
  const auto farewell = make_farewell(code, message);
  for (const auto& peer : peers_)
    if (peer) (void)send_message(peer, farewell);
  throw Error(code, message);
}

}  // namespace collectives
