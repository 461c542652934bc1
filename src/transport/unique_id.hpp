#pragma once

#include <array>
#include <collectives/communicator.hpp>
#include <cstdint>
#include <string>

namespace collectives {

/// What a UniqueId says: where the ranks meet and what they must know to be let in.
struct MeetingPlace {
  std::string directory;
  std::array<std::uint8_t, 16> secret{};
};

/// The longest directory that fits an id; a socket's name in it then fits the kernel's 108 bytes.
inline constexpr std::size_t longest_meeting_directory = 95;

/// Throws Error(invalid_argument) for bytes that `make_unique_id` of this build's format did not make.
MeetingPlace read_unique_id(const UniqueId& id);
UniqueId write_unique_id(const MeetingPlace& place);

}  // namespace collectives
