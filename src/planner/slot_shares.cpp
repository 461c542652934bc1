#include "planner/slot_shares.hpp"

namespace collectives {

SlotShares slot_shares(const Fabric& fabric) {
  // Where some read what others have for them, large messages go over flags, a tile as large as its slots.
  if (fabric.pulls()) return {.sentinels = 20, .flags = 93, .mail = 30};
  // A pair keeps up with its link once some 5 MB of messages are under way: 256 MB between two H200 take 1075 us with 2.5 MB of slots, 840 with 4.5, 764 to
  // 772 with 15. Sums of two and three ranks need no more than 16.25 MB a half for four tiles of 15 KB a block, or 17.3 where two send 16 MB once; those of four 23.21: there
  // messages take from flags, by which only `reduce`, uneven blocks and what is forced go if all reach each other.
  if (!fabric.fully_connected()) return {};
  if (fabric.ranks == 2 || fabric.ranks == 3) return {.sentinels = 78, .flags = 20, .mail = 60};
  if (fabric.ranks == 4) return {.sentinels = 93, .flags = 14, .mail = 42};
  return {};
}

}  // namespace collectives
