#pragma once

#include <algorithm>
#include <collectives/error.hpp>
#include <cstdint>
#include <functional>
#include <iterator>
#include <optional>

#include "comm/prove.hpp"

// How links are taken out of a communicator that lives, by one rank and for all of them from one and the same call on.
//
// Every rank writes the number of its call before it begins it, and then looks whether a round was announced. Who takes links out first
// announces a round and then reads all those numbers. Both are sequentially consistent, so whoever has not seen the round has begun no
// call beyond those that were read: the first call after all of them belongs to nobody yet. That is the round's call, and whoever
// begins one between the announcement and the date waits for the date, which is a few loads away and needs no other rank. So nobody
// ever waits for a rank that is slow, or blocked, or driven by the same thread.
//
// Messages between two ranks are no calls that all make: they are numbered by direction of the pair, at both ends, and a round says for
// each direction that it concerns with which message it begins, found in the same way.
namespace collectives {

/// Of one rank: messages sent to each rank, and received from each.
struct MessageCounts {
  std::uint64_t sent[max_ranks];
  std::uint64_t received[max_ranks];

  std::uint64_t& at(int peer, bool sends) { return (sends ? sent : received)[peer]; }
};

/// In memory that all ranks of a communicator reach; zeros at first.
struct DemotionBoard {
  static constexpr std::uint64_t rounds = 16;  ///< that a rank may lag behind
  struct Round {
    std::uint64_t number;  ///< from 1
    std::uint64_t call;    ///< the first that goes without these links
    std::uint64_t by;      ///< the rank that asked
    RankMasks apart;       ///< of this round and those before
    std::uint64_t message[max_ranks][max_ranks];  ///< from a rank to another: the first that goes without their link; 0 where that is older
  };
  struct alignas(64) RankWords {
    std::uint64_t begun;  ///< its newest call
    std::uint64_t taken;  ///< the newest round it goes by
    MessageCounts messages;  ///< its newest
  };

  std::uint64_t turn;       ///< who is taking links out, plus one
  std::uint64_t announced;  ///< rounds
  std::uint64_t dated;      ///< rounds whose call is known
  std::uint64_t has_room;   ///< pools in host memory are filled
  RankMasks apart;          ///< all links that were taken out so far
  Round round[rounds];      ///< number n at n modulo `rounds`
  RankWords rank[max_ranks];
};

/// One rank's view of it. Calls are those that all ranks make, numbered from 1. Not for concurrent use.
class Demotions {
 public:
  /// `look` finds what has killed this rank, if anything: waiting ends with that.
  Demotions(DemotionBoard& board, int rank, int ranks, std::uint32_t timeout_ms, std::function<std::optional<Error>()> look)
      : board_(board), rank_(rank), ranks_(ranks), timeout_ms_(timeout_ms), look_(std::move(look)) {
    for (auto& turns : {&turns_.sent, &turns_.received}) std::fill(std::begin(*turns), std::end(*turns), ~std::uint64_t{0});
  }

  /// This rank begins that call. The newest round that begins with it or before, if this rank has not gone by it yet.
  std::optional<DemotionBoard::Round> begin(std::uint64_t call);
  /// The same before the call is begun, as far as it is known.
  std::optional<DemotionBoard::Round> foresee(std::uint64_t call) const;
  /// This rank begins its messages with every peer up to these numbers, which count from 1.
  void begin_messages(const MessageCounts& upto);
  /// The first message in this direction that goes without the link, if that is one of those that are begun.
  std::uint64_t turn_of(int peer, bool sends) { return turns_.at(peer, sends); }
  /// Does every message that is begun go as the first did?
  bool is_quiet() const { return heard_ == 0; }
  /// The links that are out by what this rank goes by.
  const RankMasks& apart() const { return apart_; }

  /// Takes these pairs out, each named both ways, from the next call on that no rank has begun. `prepare(apart)` does what must be done first for
  /// all that will be out, one rank at a time; if it throws, nothing has changed. Pairs that are out already are left alone.
  /// Throws Error(invalid_usage) if a rank is `rounds` behind.
  void ask(const RankMasks& pairs, const std::function<void(const RankMasks& apart)>& prepare);

 private:
  template <typename Ready>
  void await(Ready ready, const char* what) const;
  /// Learns of the rounds that were announced, and says how many those are.
  std::uint64_t hear();
  std::optional<DemotionBoard::Round> newest(std::uint64_t dated, std::uint64_t call) const;

  DemotionBoard& board_;
  int rank_;
  int ranks_;
  std::uint32_t timeout_ms_;
  std::function<std::optional<Error>()> look_;
  std::uint64_t heard_ = 0;
  std::uint64_t taken_ = 0;
  RankMasks apart_{};
  MessageCounts turns_;
};

}  // namespace collectives
