#pragma once

#include <array>
#include <collectives/error.hpp>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace collectives {

// What goes over a mesh's sockets: one hello each way, then frames. Both ends are on one machine, so bytes are in its order.

inline constexpr std::size_t max_frame_payload = 60 * 1024;

/// The first message on a connection. Magic and secret keep their place in every version, so that another build is told from
/// a stranger.
struct Hello {
  static constexpr std::uint32_t expected_magic = 0x434f4c48;
  std::uint32_t magic = expected_magic;
  std::array<std::uint8_t, 16> secret{};
  std::uint32_t abi = 0;     ///< moves whenever a message of the library's ranks to each other changes
  std::uint64_t layout = 0;  ///< a hash over the sizes of what they send
  std::int32_t rank = 0;
  std::int32_t size = 0;
};

Hello make_hello(const std::array<std::uint8_t, 16>& secret, int rank, int size);

/// Reads a hello. None if it does not begin as one or has another secret. One of another build has rank -1.
std::optional<Hello> read_hello(std::span<const std::uint8_t> bytes, const std::array<std::uint8_t, 16>& secret);

enum class FrameType : std::uint16_t { barrier, all_gather, exchange, farewell, letter };
const char* name_of(FrameType type);

struct FrameHeader {
  static constexpr std::uint32_t expected_magic = 0x434f4c46;
  std::uint32_t magic = expected_magic;
  FrameType type = FrameType::barrier;
  std::uint16_t descriptors = 0;  ///< that come with it: 0 or 1
  std::uint32_t call = 0;         ///< how many rounds of frames this mesh had before; 0 of a letter
  std::uint32_t bytes = 0;        ///< of payload behind this header
  std::uint64_t total = 0;        ///< all_gather: bytes of the whole contribution
};

/// The header, if `bytes` are one whole frame.
std::optional<FrameHeader> read_header(std::span<const std::uint8_t> bytes);

/// A farewell tells why a rank gives up, so that the others need not wait for their own deadline to learn it.
std::vector<std::uint8_t> make_farewell(ErrorCode code, const std::string& message);
/// The error that a farewell, header included, carries from `rank`.
Error read_farewell(std::span<const std::uint8_t> bytes, int rank);

template <typename T>
std::span<const std::uint8_t> bytes_of(const T& value) {
  return {reinterpret_cast<const std::uint8_t*>(&value), sizeof value};
}

}  // namespace collectives
