#include "planner/symbols.hpp"

#include <algorithm>
#include <bit>

namespace collectives {
namespace {

std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
  return hash ^ (hash >> 29);
}

std::uint64_t atom(int rank) { return mix(0x6a09e667f3bcc909u, static_cast<std::uint64_t>(rank) + 1); }

constexpr std::uint64_t open_bracket = 0xbb67ae8584caa73bu;

}  // namespace

void join(Clock& clock, const Clock& other) {
  for (std::size_t rank = 0; rank < clock.size(); ++rank) clock[rank] = std::max(clock[rank], other[rank]);
}

bool Symbol::whole(RankMask givers) const {
  for (int rank = 0; rank < max_ranks; ++rank)
    if (counts[static_cast<std::size_t>(rank)] != (givers >> rank & 1u)) return false;
  return !poison;
}

Symbol input_of(int rank, const Tag& tag) {
  Symbol symbol{.poison = false, .tag = tag, .order = atom(rank)};
  symbol.counts[static_cast<std::size_t>(rank)] = 1;
  return symbol;
}

std::uint64_t rank_order(RankMask givers) {
  if (std::has_single_bit(givers)) return atom(std::countr_zero(givers));
  std::uint64_t order = open_bracket;
  for (int rank = 0; rank < max_ranks; ++rank)
    if ((givers >> rank & 1u) != 0) order = mix(order, atom(rank));
  return order;
}

Symbol combine(std::span<const Symbol> operands, std::string& fault) {
  for (const Symbol& operand : operands) {
    if (operand.poison)
      fault = "reads what nobody has written";
    else if (operand.tag != operands.front().tag)
      fault = "combines inputs of different calls, chunks or tiles";
    if (!fault.empty()) return {};
  }
  if (operands.empty()) {
    fault = "has nothing to combine";
    return {};
  }
  if (operands.size() == 1) return operands.front();
  Symbol sum{.poison = false, .tag = operands.front().tag, .order = open_bracket};
  for (const Symbol& operand : operands) {
    sum.order = mix(sum.order, operand.order);
    sum.divided = static_cast<std::uint8_t>(sum.divided + operand.divided);
    for (std::size_t rank = 0; rank < sum.counts.size(); ++rank)
      sum.counts[rank] = static_cast<std::uint8_t>(std::min(0xff, sum.counts[rank] + operand.counts[rank]));
  }
  return sum;
}

bool FlagWord::signal(int writer, int call, int value, const Clock& clock) {
  if (!events_.empty()) {
    const auto before = static_cast<std::size_t>(writer_);
    if (events_.back().value >= value) return false;
    if (writer_ != writer && (call_ == call || clock[before] < events_.back().clock[before])) return false;
  }
  writer_ = writer;
  call_ = call;
  events_.push_back({value, clock});
  return true;
}

const Clock* FlagWord::reached(int value) const {
  const auto event = std::lower_bound(events_.begin(), events_.end(), value, [](const Event& e, int wanted) { return e.value < wanted; });
  return event == events_.end() ? nullptr : &event->clock;
}

int Accesses::writer_unknown_to(int actor, const Clock& clock) const {
  return writer_ >= 0 && writer_ != actor && clock[static_cast<std::size_t>(writer_)] < written_ ? writer_ : -1;
}

int Accesses::reader_unknown_to(int actor, const Clock& clock) const {
  for (std::size_t reader = 0; reader < clock.size(); ++reader)
    if (clock[reader] < reads_[reader] && static_cast<int>(reader) != actor) return static_cast<int>(reader);
  return -1;
}

void Accesses::note_read(int actor, const Clock& clock) { reads_[static_cast<std::size_t>(actor)] = clock[static_cast<std::size_t>(actor)]; }

void Accesses::note_write(int actor, const Clock& clock) {
  writer_ = actor;
  written_ = clock[static_cast<std::size_t>(actor)];
}

}  // namespace collectives
