#include "transport/frame.hpp"

#include <collectives/communicator.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <type_traits>

#include "base/require.hpp"

namespace collectives {
namespace {

constexpr std::uint32_t abi = 2;
constexpr std::size_t longest_farewell = 900;

static_assert(std::is_trivially_copyable_v<Hello> && std::has_unique_object_representations_v<Hello> && offsetof(Hello, secret) == 4);
static_assert(std::is_trivially_copyable_v<FrameHeader> && std::has_unique_object_representations_v<FrameHeader>);

constexpr std::uint64_t layout_hash() {
  std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a over sizes
  for (const std::size_t size :
       {sizeof(Hello), sizeof(FrameHeader), sizeof(void*), static_cast<std::size_t>(max_ranks), max_frame_payload})
    hash = (hash ^ size) * 0x100000001b3u;
  return hash;
}

/// In a time that does not tell how many bytes were right.
bool same_secret(const std::array<std::uint8_t, 16>& a, const std::array<std::uint8_t, 16>& b) {
  std::uint8_t difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) difference |= a[i] ^ b[i];
  return difference == 0;
}

}  // namespace

Hello make_hello(const std::array<std::uint8_t, 16>& secret, int rank, int size) {
  return {.secret = secret, .abi = abi, .layout = layout_hash(), .rank = rank, .size = size};
}

std::optional<Hello> read_hello(std::span<const std::uint8_t> bytes, const std::array<std::uint8_t, 16>& secret) {
  Hello hello;
  if (bytes.size() < offsetof(Hello, abi)) return std::nullopt;
  std::memcpy(&hello, bytes.data(), std::min(bytes.size(), sizeof hello));
  if (hello.magic != Hello::expected_magic || !same_secret(hello.secret, secret)) return std::nullopt;
  if (bytes.size() != sizeof hello || hello.abi != abi || hello.layout != layout_hash()) hello.rank = -1;
  return hello;
}

const char* name_of(FrameType type) {
  constexpr const char* names[] = {"barrier", "all_gather", "exchange", "farewell", "letter"};
  const auto index = static_cast<std::size_t>(type);
  return index < std::size(names) ? names[index] : "unknown call";
}

std::optional<FrameHeader> read_header(std::span<const std::uint8_t> bytes) {
  FrameHeader header;
  if (bytes.size() < sizeof header) return std::nullopt;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.magic != FrameHeader::expected_magic || header.bytes != bytes.size() - sizeof header) return std::nullopt;
  return header;
}

std::vector<std::uint8_t> make_farewell(ErrorCode code, const std::string& message) {
  const std::string_view text = std::string_view(message).substr(0, longest_farewell);
  FrameHeader header{
      .type = FrameType::farewell, .call = static_cast<std::uint32_t>(code), .bytes = static_cast<std::uint32_t>(text.size())};
  std::vector<std::uint8_t> frame(sizeof header + text.size());
  std::memcpy(frame.data(), &header, sizeof header);
  std::copy(text.begin(), text.end(), frame.begin() + sizeof header);
  return frame;
}

Error read_farewell(std::span<const std::uint8_t> bytes, int rank) {
  const auto header = read_header(bytes);
  ensure(header && header->type == FrameType::farewell, "not a farewell");
  const bool known = header->call >= 1 && header->call <= static_cast<std::uint32_t>(ErrorCode::internal);
  const std::string text(bytes.begin() + sizeof(FrameHeader), bytes.end());
  return Error(known ? static_cast<ErrorCode>(header->call) : ErrorCode::peer_lost, fmt::format("rank {} gave up: {}", rank, text));
}

}  // namespace collectives
