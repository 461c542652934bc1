#pragma once

#include <collectives/communicator.hpp>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/file_descriptor.hpp"
#include "transport/frame.hpp"
#include "transport/post.hpp"
#include "transport/socket.hpp"

namespace collectives {

/// The processes of one communicator, each connected to each by a Unix socket of its own. Carries small control messages and
/// file descriptors while the communicator is made, and afterwards tells who has gone: an open socket is a live peer.
class Mesh final : public Post {
 public:
  /// Collective. Meets the other ranks in the id's private directory (0700, owner checked, peers' credentials checked).
  /// Throws Error(timeout) naming the ranks that have not come, Error(invalid_argument) for a garbage id, a rank out of
  /// range, a rank that came twice or another size, Error(unsupported) for another build of this library. A rank that gives
  /// up tells the others, who throw the same; one that dies meanwhile is Error(peer_lost).
  static Mesh join(const UniqueId& id, int rank, int size, std::uint32_t timeout_ms);

  Mesh(Mesh&&) noexcept = default;
  Mesh& operator=(Mesh&&) noexcept = default;

  int rank() const { return rank_; }
  int size() const { return static_cast<int>(peers_.size()); }

  /// Collective. Every rank's bytes, by rank; all must be equally long. Throws Error(mismatch) if they are not or a rank makes
  /// another call, Error(peer_lost) naming the rank that went,
  /// Error(timeout) naming one that did not answer.
  std::vector<std::vector<std::uint8_t>> all_gather(std::span<const std::uint8_t> mine);

  /// Collective. A descriptor of every other rank's file, by rank; none at this rank's own place and for a rank that gave none.
  std::vector<FileDescriptor> exchange(const FileDescriptor& mine);

  /// Collective.
  void barrier();

  void send(int to, std::span<const std::uint8_t> letter) override;
  std::vector<std::uint8_t> receive(int from, std::size_t bytes) override;

  /// Tells the peers that this rank goes in good order: they will find it among `left_peers`, not as a `lost_peer`.
  void leave() const;
  /// A rank whose process is gone without a farewell, if any. Does not block.
  std::optional<int> lost_peer() const;
  /// The ranks that have said farewell, a bit each. Does not block.
  std::uint32_t left_peers() const;

 private:
  /// One rank's frame of a round.
  struct Frame {
    std::vector<std::uint8_t> payload;
    FileDescriptor descriptor;
  };

  Mesh(int rank, std::uint32_t timeout_ms, std::vector<FileDescriptor> peers);

  /// A frame to every peer and one from every peer, each of `type`, by rank.
  std::vector<Frame> round(FrameType type, std::span<const std::uint8_t> payload, std::uint64_t total, const FileDescriptor& descriptor,
                           const Deadline& deadline);
  /// Tells the peers why, and throws it.
  [[noreturn]] void fail(ErrorCode code, const std::string& message) const;
  [[noreturn]] void lose(int peer, const FrameHeader& mine) const;
  /// For a peer that has closed: throws what it said in its farewell, if it left one behind its frames.
  [[noreturn]] void mourn(int peer, const FrameHeader& mine, std::span<std::uint8_t> buffer) const;
  void pass_on_farewell(int peer, std::span<const std::uint8_t> bytes) const;
  void check_header(const FrameHeader& theirs, const FrameHeader& mine, int peer) const;
  std::optional<Frame> receive_frame(int peer, const FrameHeader& mine, std::span<std::uint8_t> buffer) const;

  int rank_ = 0;
  std::uint32_t timeout_ms_ = 0;
  std::uint32_t rounds_ = 0;
  std::vector<FileDescriptor> peers_;  ///< a socket a rank; none at rank_
};

}  // namespace collectives
