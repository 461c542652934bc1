#pragma once

#include "base/atomics.hpp"

// How a pack shows its reader that it has arrived.
namespace collectives::kernels {

/// A word that no finite value, infinity or canonical NaN uses marks an empty slot; senders turn the NaNs that would collide
/// into others, and the sender's own operand goes the same way so that all ranks combine the same bits.
template <typename T>
struct SentinelWire {
  static constexpr bool flagged = false;
  static constexpr std::uint32_t empty = 0xffffffffu;
  static constexpr std::uint32_t instead = sizeof(T) == 2 ? 0x7fff7fffu : 0x7fffffffu;

  static COLLECTIVES_HOST_DEVICE Pack sanitize(Pack pack) {
    COLLECTIVES_UNROLL
    for (int i = 0; i < 4; ++i) pack.word[i] = pack.word[i] == empty ? instead : pack.word[i];
    return pack;
  }
  static COLLECTIVES_HOST_DEVICE bool arrived(const Pack& pack) {
    return pack.word[0] != empty && pack.word[1] != empty && pack.word[2] != empty && pack.word[3] != empty;
  }
  static COLLECTIVES_HOST_DEVICE Pack load(const Pack* slot) { return load_shared(slot); }
  static COLLECTIVES_HOST_DEVICE void store(Pack* slot, const Pack& pack) { store_shared(slot, pack); }
  static COLLECTIVES_HOST_DEVICE void clear(Pack* slot) { store_shared(slot, Pack{{empty, empty, empty, empty}}); }
};

/// Any bits at all. Words travel *salted*; those that would then pass for an empty slot travel as *marked* ones, and a word of its own beside a thread's packs
/// says which of the marked words they were, four bits a pack. That word has its top bit clear, so it too shows that it has arrived. It need only travel
/// with packs that hold a marked word: who reads one knows that there is more to come. Slots are cleared as the sentinels' are, and may be theirs.
struct EscapedWire {
  static constexpr bool flagged = false;
  static constexpr std::uint32_t empty = 0xffffffffu, marked = 0xfffffffeu;
  /// Combined with every word by exclusive or: what looks empty or marked is then no -1 and no -2, of which tensors of integers are full, but two NaNs. Where nearly every thread
  /// had words to tell of, an all-reduce of 16 MB of integers took 4 H200 183 us, and 82 where none had.
  static constexpr std::uint32_t salt = 0x005a3ca4u;
  static constexpr std::uint32_t looks_empty = empty ^ salt, looks_marked = marked ^ salt;

  /// Salts a pack and takes the words out that look empty. A bit for each.
  static COLLECTIVES_HOST_DEVICE std::uint32_t escape(Pack& pack) {
    std::uint32_t escaped = 0;
    COLLECTIVES_UNROLL
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t salted = pack.word[i] ^ salt;
      escaped |= static_cast<std::uint32_t>(salted == empty) << i;
      pack.word[i] = salted == empty ? marked : salted;
    }
    return escaped;
  }
  /// Is the word beside it needed to know what an escaped pack was?
  static COLLECTIVES_HOST_DEVICE bool is_marked(const Pack& pack) {
    return pack.word[0] == marked || pack.word[1] == marked || pack.word[2] == marked || pack.word[3] == marked;
  }
  /// `escaped` is what `escape` said, or 0 for a pack that needs no word.
  static COLLECTIVES_HOST_DEVICE void restore(Pack& pack, std::uint32_t escaped) {
    COLLECTIVES_UNROLL
    for (int i = 0; i < 4; ++i) pack.word[i] ^= salt;
    if ((escaped & 0xfu) == 0) return;  // as nearly always
    COLLECTIVES_UNROLL
    for (int i = 0; i < 4; ++i) pack.word[i] = (escaped >> i & 1u) != 0 ? looks_empty : static_cast<std::uint32_t>(pack.word[i]);
  }
  static COLLECTIVES_HOST_DEVICE bool arrived(const Pack& pack) {
    return pack.word[0] != empty && pack.word[1] != empty && pack.word[2] != empty && pack.word[3] != empty;
  }
  static COLLECTIVES_HOST_DEVICE bool arrived(std::uint32_t word) { return word != empty; }
  static COLLECTIVES_HOST_DEVICE Pack load(const Pack* slot) { return load_shared(slot); }
  static COLLECTIVES_HOST_DEVICE void store(Pack* slot, const Pack& pack) { store_shared(slot, pack); }
  static COLLECTIVES_HOST_DEVICE void clear(Pack* slot) { store_shared(slot, Pack{{empty, empty, empty, empty}}); }
};

/// Plain packs behind a flag.
template <typename T>
struct FlaggedWire {
  static constexpr bool flagged = true;
  static COLLECTIVES_HOST_DEVICE Pack sanitize(const Pack& pack) { return pack; }
  static COLLECTIVES_HOST_DEVICE bool arrived(const Pack&) { return true; }
#if defined(__CUDACC__)
  static COLLECTIVES_HOST_DEVICE Pack load(const Pack* slot) { return load_shared(slot); }
  static COLLECTIVES_HOST_DEVICE void store(Pack* slot, const Pack& pack) { store_shared(slot, pack); }
#else
  static Pack load(const Pack* slot) { return *slot; }
  static void store(Pack* slot, const Pack& pack) { *slot = pack; }
#endif
  static COLLECTIVES_HOST_DEVICE void clear(Pack*) {}
  static COLLECTIVES_HOST_DEVICE void publish(Mark* flag, Mark value) { signal(flag, value); }
};

}  // namespace collectives::kernels
