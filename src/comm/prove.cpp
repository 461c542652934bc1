#include "comm/prove.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.hpp"
#include "base/require.hpp"

#if COLLECTIVES_HAS_CUDA
#include "topology/verify_quick.hpp"
#endif

namespace collectives {
namespace {

bool has(std::uint32_t mask, int rank) { return (mask >> rank & 1u) != 0; }

}  // namespace

RankMasks due_proofs(const Fabric& fabric, const std::vector<int>& first_on_gpu) {
  RankMasks due{};
  if (fabric.backend == Backend::host) return due;  // on the word of a machine file, which moves nothing
  for (int a = 0; a < fabric.ranks; ++a)
    for (int b = 0; b < fabric.ranks; ++b) {
      const FabricLink &there = fabric.link(a, b), &back = fabric.link(b, a);
      const bool first = first_on_gpu[static_cast<std::size_t>(a)] == a && first_on_gpu[static_cast<std::size_t>(b)] == b;
      if (a != b && first && there.direct && back.direct && (there.unproved || back.unproved)) due[static_cast<std::size_t>(a)] |= 1u << b;
    }
  return due;
}

bool any(const RankMasks& masks) {
  return std::any_of(masks.begin(), masks.end(), [](std::uint32_t mask) { return mask != 0; });
}

bool demote(Fabric& fabric, const RankMasks& failed, const std::vector<int>& first_on_gpu) {
  for (int to = 0; to < fabric.ranks; ++to)
    for (int from = 0; from < fabric.ranks; ++from)
      if (has(failed[static_cast<std::size_t>(to)], from))
        log(LogLevel::warn, "what rank {} stores into rank {}'s memory does not arrive there: the two meet in host memory (`collectives doctor` says more)", from, to);
  apply_peer_policy(fabric, [&](int a, int b) {
    const auto x = static_cast<std::size_t>(first_on_gpu[static_cast<std::size_t>(a)]), y = static_cast<std::size_t>(first_on_gpu[static_cast<std::size_t>(b)]);
    return has(failed[x], static_cast<int>(y)) || has(failed[y], static_cast<int>(x));
  });
  return any(failed);
}

RankMasks prove([[maybe_unused]] const std::vector<ProvingRank>& ranks, const RankMasks& due, [[maybe_unused]] int size,
                [[maybe_unused]] const kernels::Layout& layout, [[maybe_unused]] Mark nonce) {
  RankMasks failed{};
#if COLLECTIVES_HAS_CUDA
  const std::size_t area = layout.half(true, 0), bytes = 2 * layout.flagged_bytes;
  std::vector<QuickRank> quick;
  for (const ProvingRank& rank : ranks) {
    const std::uint32_t peers = due[static_cast<std::size_t>(rank.rank)];
    if (peers == 0) continue;
    QuickRank& own = quick.emplace_back(QuickRank{.rank = rank.rank, .device = rank.device, .peers = peers});
    for (std::size_t peer = 0; peer < rank.pools.size(); ++peer)
      if (rank.pools[peer]) own.areas[peer] = rank.pools[peer] + area;
  }
  const auto results = verify_quickly(quick, size, bytes, nonce);
  for (std::size_t i = 0; i < quick.size(); ++i) failed[static_cast<std::size_t>(quick[i].rank)] = results[i].late | results[i].wrong;
#else
  ensure(!any(due), "a host has no links to prove");
#endif
  return failed;
}

}  // namespace collectives
