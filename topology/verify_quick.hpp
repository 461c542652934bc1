#pragma once

#include <array>
#include <collectives/communicator.hpp>
#include <collectives/verify.hpp>
#include <optional>
#include <vector>

#include "base/atomics.hpp"

namespace collectives {

/// A rank of this process that takes part in a quick proof: the areas as its device reaches them, its own too.
struct QuickRank {
  int rank = 0;
  int device = 0;
  std::uint32_t peers = 0;  ///< whom it tries, a bit each; those must try it, too
  std::array<std::byte*, max_ranks> areas{};
};

/// Whose data came late or not at all, and whose came wrong, a bit each.
struct QuickResult {
  std::uint32_t late = 0;
  std::uint32_t wrong = 0;
};

/// The short form: in the very memory where the ranks will meet, every one stores a pattern and a flag into every peer's area, twice,
/// and looks at what came. Takes about as long as a few calls; a broken link costs up to three seconds, once. All ranks that
/// have peers call it at about the same time with one `nonce`, new in these areas, whose contents are lost. A fault is
/// injected between ranks, dropped or corrupted only. Throws Error(timeout) if a kernel does not end.
std::vector<QuickResult> verify_quickly(const std::vector<QuickRank>& ranks, int size, std::size_t area_bytes, Mark nonce,
                                        const std::optional<Injection>& injection = {});

/// Loads what that launches, so that no rank is late because of it.
void prepare_quick_proof(int device);

}  // namespace collectives
