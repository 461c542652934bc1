#include "perf/data.hpp"

#include <cstring>

namespace perf {
namespace {

template <typename Word>
void fill_words(std::byte* data, std::size_t count, const Payload& payload, int rank) {
  for (std::size_t i = 0; i < count; ++i) {
    const Word word = static_cast<Word>(bits_of(payload, rank, i));
    std::memcpy(data + i * sizeof(Word), &word, sizeof(Word));
  }
}

template <typename Word>
std::uint64_t wrong_words(const std::byte* data, std::size_t count, const Payload& payload, int rank) {
  std::uint64_t wrong = 0;
  for (std::size_t i = 0; i < count; ++i) {
    Word word;
    std::memcpy(&word, data + i * sizeof(Word), sizeof(Word));
    wrong += word != static_cast<Word>(bits_of(payload, rank, i));
  }
  return wrong;
}

/// Calls `body` with a zero of the unsigned type as wide as an element. Data may be unaligned, hence memcpy in the bodies.
template <typename Body>
auto with_word(DataType type, Body&& body) {
  switch (collectives::size_of(type)) {
    case 1:
      return body(std::uint8_t{});
    case 2:
      return body(std::uint16_t{});
    case 4:
      return body(std::uint32_t{});
    default:
      return body(std::uint64_t{});
  }
}

}  // namespace

void fill(void* data, std::size_t count, const Payload& payload, int rank) {
  with_word(payload.type, [&]<typename Word>(Word) { fill_words<Word>(static_cast<std::byte*>(data), count, payload, rank); });
}

std::uint64_t count_wrong(const void* data, std::size_t count, const Payload& payload, int rank) {
  return with_word(payload.type,
                   [&]<typename Word>(Word) { return wrong_words<Word>(static_cast<const std::byte*>(data), count, payload, rank); });
}

std::uint64_t count_altered(const void* data, std::size_t bytes, std::uint8_t value) {
  const auto* text = static_cast<const std::uint8_t*>(data);
  std::uint64_t altered = 0;
  for (std::size_t i = 0; i < bytes; ++i) altered += text[i] != value;
  return altered;
}

}  // namespace perf
