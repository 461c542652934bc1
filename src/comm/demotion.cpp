#include "comm/demotion.hpp"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>

#include "base/require.hpp"
#include "memory/rollback.hpp"

namespace collectives {
namespace {

// Words of host memory between threads or processes: what ranks tell each other here is for CPUs alone.
std::uint64_t read(const std::uint64_t& word) { return __atomic_load_n(&word, __ATOMIC_SEQ_CST); }
void write(std::uint64_t& word, std::uint64_t value) { __atomic_store_n(&word, value, __ATOMIC_SEQ_CST); }
bool exchange(std::uint64_t& word, std::uint64_t from, std::uint64_t to) {
  return __atomic_compare_exchange_n(&word, &from, to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

}  // namespace

template <typename Ready>
void Demotions::await(Ready ready, const char* what) const {
  const std::uint64_t began = now_ns();
  for (std::uint64_t looked = began; !ready();) {
    ::sched_yield();
    const std::uint64_t now = now_ns();
    if (now - looked < 1'000'000) continue;
    looked = now;
    if (const auto error = look_()) throw *error;
    require(now - began < std::uint64_t{timeout_ms_} * 1'000'000,
            [&] { return fmt::format("rank {} of {}: rank {}, which takes links out, did not {} within {} ms", rank_, ranks_, static_cast<std::int64_t>(read(board_.turn)) - 1, what, timeout_ms_); },
            ErrorCode::timeout);
  }
}

std::optional<DemotionBoard::Round> Demotions::newest(std::uint64_t dated, std::uint64_t call) const {
  for (std::uint64_t number = dated; number > taken_; --number) {
    const DemotionBoard::Round& round = board_.round[number % DemotionBoard::rounds];
    if (round.call <= call) return round;
  }
  return std::nullopt;
}

std::uint64_t Demotions::hear() {
  const std::uint64_t announced = read(board_.announced);
  if (announced == heard_) return announced;
  await([&] { return read(board_.dated) >= announced; }, "say since which call");
  for (; heard_ < announced; ++heard_) {
    const auto& message = board_.round[(heard_ + 1) % DemotionBoard::rounds].message;
    for (int peer = 0; peer < ranks_; ++peer) {
      if (message[rank_][peer] != 0) turns_.at(peer, true) = message[rank_][peer];
      if (message[peer][rank_] != 0) turns_.at(peer, false) = message[peer][rank_];
    }
  }
  return announced;
}

void Demotions::begin_messages(const MessageCounts& upto) {
  MessageCounts& own = board_.rank[rank_].messages;
  for (int peer = 0; peer < ranks_; ++peer) {
    if (own.sent[peer] != upto.sent[peer]) write(own.sent[peer], upto.sent[peer]);
    if (own.received[peer] != upto.received[peer]) write(own.received[peer], upto.received[peer]);
  }
  hear();
}

std::optional<DemotionBoard::Round> Demotions::begin(std::uint64_t call) {
  DemotionBoard::RankWords& own = board_.rank[rank_];
  write(own.begun, call);
  const std::uint64_t announced = hear();
  if (announced == taken_) return std::nullopt;
  const auto round = newest(announced, call);
  if (round) {
    taken_ = round->number;
    apart_ = round->apart;
    write(own.taken, taken_);
  }
  return round;
}

std::optional<DemotionBoard::Round> Demotions::foresee(std::uint64_t call) const { return newest(read(board_.dated), call); }

void Demotions::ask(const RankMasks& pairs, const std::function<void(const RankMasks& apart)>& prepare) {
  await([&] { return exchange(board_.turn, 0, static_cast<std::uint64_t>(rank_) + 1); }, "end");
  const Rollback done([&] { write(board_.turn, 0); });
  RankMasks apart = board_.apart;
  for (std::size_t r = 0; r < apart.size(); ++r) apart[r] |= pairs[r];
  if (apart == board_.apart) return;
  const std::uint64_t number = read(board_.dated) + 1;
  std::uint64_t taken = number, begun = 0;
  for (int r = 0; r < ranks_; ++r) taken = std::min(taken, read(board_.rank[r].taken));
  require(number - taken <= DemotionBoard::rounds, [&] { return fmt::format("a rank goes on without {} rounds of links that were taken out: expected it to make its next calls first", number - taken - 1); },
          ErrorCode::invalid_usage);
  prepare(apart);
  DemotionBoard::Round& round = board_.round[number % DemotionBoard::rounds];
  write(board_.announced, number);
  for (int r = 0; r < ranks_; ++r) begun = std::max(begun, read(board_.rank[r].begun));
  round = {.number = number, .call = begun + 1, .by = static_cast<std::uint64_t>(rank_), .apart = apart, .message = {}};
  for (int from = 0; from < ranks_; ++from)
    for (int to = 0; to < ranks_; ++to)
      if (((apart[static_cast<std::size_t>(from)] & ~board_.apart[static_cast<std::size_t>(from)]) >> to & 1u) != 0)
        round.message[from][to] = std::max(read(board_.rank[from].messages.sent[to]), read(board_.rank[to].messages.received[from])) + 1;
  board_.apart = apart;
  write(board_.dated, number);
}

}  // namespace collectives
