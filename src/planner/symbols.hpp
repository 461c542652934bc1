#pragma once

#include <array>
#include <collectives/communicator.hpp>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "planner/schedule.hpp"

namespace collectives {

/// How far each actor is known to have come: Lamport's vector clock. An actor is a rank, or a crew of one.
using Clock = std::array<std::uint32_t, max_ranks>;

void join(Clock& clock, const Clock& other);

/// Which input a symbol is made of. Symbols of different tags are never the same thing.
struct Tag {
  int call = -1;
  int chunk = -1;
  int tile = -1;
  bool operator==(const Tag&) const = default;
};

/// What a cell holds instead of numbers: how often each rank's input of one call, chunk and tile is in it, and in which order they
/// were combined. Fresh symbols are poison.
struct Symbol {
  bool poison = true;
  std::uint8_t divided = 0;  ///< how often it went through a step marked complete
  Tag tag;
  std::array<std::uint8_t, max_ranks> counts{};
  std::uint64_t order = 0;  ///< a hash of the expression: equal for equal brackets around equal ranks

  /// Is every giver's input in it once, and no other?
  bool whole(RankMask givers) const;
};

Symbol input_of(int rank, const Tag& tag);

/// The order of one step that combines the givers' inputs in ascending order of rank, or of the one input there is.
std::uint64_t rank_order(RankMask givers);

/// The operands combined in one step, in this order; a single one stays as it is. Leaves what is wrong in `fault`: poison, or
/// symbols of two tags.
Symbol combine(std::span<const Symbol> operands, std::string& fault);

/// One flag word: who writes it in a call, and what its writer knew at each value.
class FlagWord {
 public:
  /// Returns false if another rank wrote here in this call, or in an earlier one and this writer may not know of it, or if the
  /// value does not grow: real words would go back.
  bool signal(int writer, int call, int value, const Clock& clock);
  /// What the writer knew when the word first reached `value`, or null if it has not.
  const Clock* reached(int value) const;

 private:
  struct Event {
    int value;
    Clock clock;
  };
  int writer_ = -1;
  int call_ = -1;
  std::vector<Event> events_;
};

/// By whom something was last written, and by whom read, each on their own clock: what an access conflicts with must be known to its actor.
class Accesses {
 public:
  /// Who may still be writing or reading for all that `actor` knows, -1 if nobody.
  int writer_unknown_to(int actor, const Clock& clock) const;
  int reader_unknown_to(int actor, const Clock& clock) const;
  void note_read(int actor, const Clock& clock);
  void note_write(int actor, const Clock& clock);

 private:
  int writer_ = -1;
  std::uint32_t written_ = 0;
  Clock reads_{};
};

/// One slot: what it holds, and who was there.
struct SlotState {
  Symbol symbol;
  bool full = false;  ///< sentinel wire: holds a pack that was not read
  Accesses accesses;
};

}  // namespace collectives
