#pragma once

#include <collectives/types.hpp>
#include <cstddef>
#include <cstdint>

#include "base/atomics.hpp"

// What proves links: kernels that write a pattern, kernels that wait for it where it arrives and look at it there, and kernels
// that time both. Every wait has a deadline.
namespace collectives::kernels {

/// What memory holds at a pack's index after a write with this seed: another value for every word and every seed.
COLLECTIVES_HOST_DEVICE constexpr std::uint32_t pattern_word(std::uint32_t seed, std::uint64_t word) {
  std::uint64_t x = (static_cast<std::uint64_t>(seed) << 40) ^ (word + 0x9e3779b97f4a7c15u);
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return static_cast<std::uint32_t>(x ^ x >> 31);
}
static_assert(pattern_word(1, 0) != pattern_word(2, 0) && pattern_word(1, 0) != pattern_word(1, 1));

/// Parts of a buffer, in packs. Around each, as far as the buffer goes, lies a margin that nobody may touch.
struct ProbeRegion {
  std::uint32_t begin = 0;
  std::uint32_t packs = 0;
};
inline constexpr int probe_regions = 4;
inline constexpr std::uint32_t probe_margin = 16;  ///< packs
struct ProbeRegions {
  ProbeRegion region[probe_regions];
  std::uint32_t buffer_packs = 0;
};

/// 16 B, 4 KB, 2 MB and the last page of a buffer, which must have 4 MB or more.
constexpr ProbeRegions probe_regions_of(std::size_t buffer_bytes) {
  const auto packs = static_cast<std::uint32_t>(buffer_bytes / 16);
  return {{{64, 1}, {4096, 256}, {8192 + 3, (2u << 20) / 16}, {packs - 256, 256}}, packs};
}

struct ProbeWrite {
  Pack* buffer = nullptr;  ///< the beginning of the buffer, of this GPU or of a peer
  ProbeRegions regions;
  std::uint32_t margin = 0;            ///< packs around each region that are written, too
  std::uint32_t seed = 0;
  bool data = true;                    ///< false: the flag alone
  std::int64_t corrupt = -1;           ///< the index of a pack of which one bit is turned
  Mark* flag = nullptr;                ///< released after the data; null: none
  Mark value = 0;
};

/// In memory that the host sees; `rounds` last in each round.
struct ProbeRecord {
  std::uint32_t started;
  std::uint32_t rounds;      ///< that have been looked at
  std::uint32_t late;        ///< the flag did not come
  std::uint32_t wrong;       ///< packs with wrong words, margins included
  Mark first_bad;            ///< the first of them, its index
};

/// Waits for `values[round]` in the flag, then compares the regions with `seeds[round]` and their margins with `margin_seed`. If
/// the memory is this GPU's own it is overwritten afterwards, so that the next round has to arrive, too.
struct ProbeCheck {
  Pack* buffer = nullptr;
  ProbeRegions regions;
  const Mark* flag = nullptr;
  static constexpr std::uint32_t most_rounds = 2;
  std::uint32_t rounds = most_rounds;
  std::uint32_t seeds[most_rounds] = {};
  Mark values[most_rounds] = {};
  std::uint32_t margin_seed = 0;
  bool own = true;
  std::uint64_t deadline_ns = 0;  ///< for one round
  ProbeRecord* record = nullptr;
};

/// A copy by the multiprocessors: stores to a peer if `to` is the peer's, loads from it if `from` is. `passes` times.
struct ProbeCopy {
  Pack* to = nullptr;
  const Pack* from = nullptr;
  std::size_t packs = 0;
  int passes = 1;
};

/// One of two kernels that answer each other. `serves` begins; it writes how long `rounds` took it, without the first few.
struct ProbePingPong {
  Mark* theirs = nullptr;
  const Mark* mine = nullptr;
  Mark base = 0;  ///< greater than what either flag holds
  std::uint32_t rounds = 0;
  bool serves = false;
  std::uint64_t deadline_ns = 0;      ///< for all of it
  std::uint64_t* elapsed_ns = nullptr;  ///< in memory that the host sees; 0: gave up
};

/// All ranks at once prove the memory in which they will meet, as they reach it: in each of two rounds every rank stores a pattern
/// and then a flag into its part of every peer's area, waits for the peers' and looks at it; before the second round the owner
/// overwrites what it got, and tells the sender so. One block a peer.
struct ProbeExchange {
  std::byte* areas[16] = {};  ///< of each rank, as this rank reaches it, and its own
  std::int32_t rank = 0;
  std::int32_t ranks = 0;
  std::uint32_t peers = 0;       ///< the ranks that take part beside this one, a bit each
  std::uint32_t packs = 0;       ///< from one rank to another
  Mark nonce = 0;                ///< the same on all ranks and never used before in these areas, nor are the three after it
  std::uint64_t deadline_ns = 0;  ///< for one wait
  std::int32_t drop_to = -1;     ///< a fault on purpose: nothing is sent to this rank
  std::int32_t corrupt_to = -1;  ///< one bit wrong in what is sent to this rank
  std::uint32_t* verdicts = nullptr;  ///< [rank] in memory that the host sees: what came from it
};
enum class ProbeVerdict : std::uint32_t { unknown, ok, wrong, late };
/// Bytes of an area.
constexpr std::size_t probe_area_bytes(int ranks, std::uint32_t packs) {
  return static_cast<std::size_t>(ranks) * (std::size_t{packs} * 16 + 256);
}

void launch_probe_write(const ProbeWrite& args, Stream stream);
void launch_probe_check(const ProbeCheck& args, Stream stream);
void launch_probe_copy(const ProbeCopy& args, int blocks, Stream stream);
void launch_probe_ping_pong(const ProbePingPong& args, Stream stream);
void launch_probe_exchange(const ProbeExchange& args, Stream stream);

/// Loads them on the current device: a first launch may wait for kernels that run, which here wait for it.
void preload_probe();
void preload_probe_exchange();

}  // namespace collectives::kernels
