#pragma once

#include <poll.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/file_descriptor.hpp"

namespace collectives {

// Unix sockets that keep message boundaries. Every descriptor here is non-blocking and closed on exec; waiting is `wait`'s.

/// When waiting becomes an error.
class Deadline {
 public:
  explicit Deadline(std::uint32_t timeout_ms) : at_(std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms)) {}
  bool passed() const { return std::chrono::steady_clock::now() >= at_; }
  /// Milliseconds to go, at least 1 before it has passed, at most `limit`.
  int left_ms(int limit) const;

 private:
  std::chrono::steady_clock::time_point at_;
};

/// What came of one attempt to send or receive.
enum class SocketOutcome : std::uint8_t {
  done,
  later,   ///< nothing there, or no room
  gone,    ///< the other side has closed
  broken,  ///< a message longer than the buffer, or with descriptors that did not fit or could not be opened here
};

struct Received {
  SocketOutcome outcome = SocketOutcome::later;
  std::size_t bytes = 0;
  std::vector<FileDescriptor> descriptors;
};

/// Listens at `path`. None if the name is taken.
std::optional<FileDescriptor> listen_at(const std::string& path);
/// Connects to who listens at `path`. None if nobody does yet, or too many wait there.
std::optional<FileDescriptor> call(const std::string& path);
/// The next caller of `listener`. None if there is none.
std::optional<FileDescriptor> answer(const FileDescriptor& listener);

/// Does the process at the other end run as this user? The kernel's word, not the peer's.
bool is_same_user(const FileDescriptor& socket);
/// Has the other end closed? Takes nothing from the socket.
bool is_gone(const FileDescriptor& socket);

/// One message, `head` and then `body`, with `descriptor` if it holds one.
SocketOutcome send_message(const FileDescriptor& socket, std::span<const std::uint8_t> head, std::span<const std::uint8_t> body = {},
                           const FileDescriptor& descriptor = {});
/// One message into `buffer`. `peek` leaves it in the socket and takes no descriptors.
Received receive_message(const FileDescriptor& socket, std::span<std::uint8_t> buffer, bool peek = false);

/// Until something happens at one of `sockets`, a signal comes, or the time is over.
void wait(std::span<pollfd> sockets, int timeout_ms);

}  // namespace collectives
