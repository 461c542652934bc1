#include "transport/socket.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/require.hpp"

namespace collectives {
namespace {

/// Room for more descriptors than a frame may carry, so that too many are seen and closed and not silently dropped.
constexpr std::size_t descriptor_room = 4;

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  require(path.size() < sizeof address.sun_path, "the path of a Unix socket has more than 107 bytes");
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

FileDescriptor make_socket() {
  return FileDescriptor(system_check(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), "socket"));
}

std::vector<FileDescriptor> take_descriptors(msghdr& message) {
  std::vector<FileDescriptor> taken;
  for (cmsghdr* control = CMSG_FIRSTHDR(&message); control != nullptr; control = CMSG_NXTHDR(&message, control)) {
    if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(control) + i * sizeof(int), sizeof fd);
      taken.emplace_back(fd);
    }
  }
  return taken;
}

}  // namespace

int Deadline::left_ms(int limit) const {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(at_ - std::chrono::steady_clock::now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, limit));
}

std::optional<FileDescriptor> listen_at(const std::string& path) {
  const sockaddr_un address = address_of(path);
  FileDescriptor socket = make_socket();
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    if (errno == EADDRINUSE) return std::nullopt;
    system_check(-1, "bind of " + path);
  }
  if (::listen(socket.get(), 64) != 0) {
    const int error = errno;
    ::unlink(path.c_str());
    errno = error;
    system_check(-1, "listen at " + path);
  }
  return socket;
}

std::optional<FileDescriptor> call(const std::string& path) {
  const sockaddr_un address = address_of(path);
  FileDescriptor socket = make_socket();
  int result = -1;
  while ((result = ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address)) != 0 && errno == EINTR) continue;
  if (result == 0) return socket;
  // EAGAIN: the listener's queue is full.
  if (errno == ENOENT || errno == ECONNREFUSED || errno == EAGAIN) return std::nullopt;
  system_check(-1, "connect to " + path);
  return std::nullopt;
}

std::optional<FileDescriptor> answer(const FileDescriptor& listener) {
  const int fd = ::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd >= 0) return FileDescriptor(fd);
  if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return std::nullopt;
  system_check(-1, "accept");
  return std::nullopt;
}

bool is_same_user(const FileDescriptor& socket) {
  ucred peer{};
  socklen_t length = sizeof peer;
  return ::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && length == sizeof peer && peer.uid == ::geteuid();
}

bool is_gone(const FileDescriptor& socket) {
  pollfd entry{socket.get(), POLLRDHUP, 0};
  wait({&entry, 1}, 0);
  return (entry.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) != 0;
}

SocketOutcome send_message(const FileDescriptor& socket, std::span<const std::uint8_t> head, std::span<const std::uint8_t> body,
                           const FileDescriptor& descriptor) {
  iovec parts[2] = {{const_cast<std::uint8_t*>(head.data()), head.size()}, {const_cast<std::uint8_t*>(body.data()), body.size()}};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  if (descriptor) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    const int fd = descriptor.get();
    std::memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  }
  for (;;) {
    if (::sendmsg(socket.get(), &message, MSG_NOSIGNAL) >= 0) return SocketOutcome::done;
    if (errno == EINTR) continue;
    // ENOBUFS: the kernel has no memory at this moment.
    if (errno == EAGAIN || errno == ENOBUFS) return SocketOutcome::later;
    if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN) return SocketOutcome::gone;
    system_check(-1, "sendmsg");
  }
}

Received receive_message(const FileDescriptor& socket, std::span<std::uint8_t> buffer, bool peek) {
  alignas(cmsghdr) char control[CMSG_SPACE(descriptor_room * sizeof(int))] = {};
  iovec part{buffer.data(), buffer.size()};
  bool reset = false;
  for (;;) {
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (!peek) {
      message.msg_control = control;
      message.msg_controllen = sizeof control;
    }
    const ssize_t bytes = ::recvmsg(socket.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT | (peek ? MSG_PEEK : 0));
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0 && errno == EAGAIN) return {};
    // A peer that closes with unread messages resets us once, and what it had sent before can still be read after that.
    if (bytes < 0 && errno == ECONNRESET && !std::exchange(reset, true)) continue;
    if (bytes < 0 && (errno == ECONNRESET || errno == ENOTCONN)) return {SocketOutcome::gone, 0, {}};
    system_check(static_cast<int>(bytes), "recvmsg");
    Received received{SocketOutcome::done, static_cast<std::size_t>(bytes), take_descriptors(message)};
    // No frame of this library is empty: an empty one is the end.
    if (bytes == 0) received.outcome = SocketOutcome::gone;
    // A peek brings no descriptors and may see only the head.
    if (!peek && (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) received.outcome = SocketOutcome::broken;
    return received;
  }
}

void wait(std::span<pollfd> sockets, int timeout_ms) {
  const int result = ::poll(sockets.data(), sockets.size(), timeout_ms);
  if (result >= 0) return;
  for (auto& socket : sockets) socket.revents = 0;
  if (errno != EINTR && errno != ENOMEM) system_check(result, "poll");
}

}  // namespace collectives
