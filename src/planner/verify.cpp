#include "planner/verify.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <optional>

#include "base/integers.hpp"
#include "planner/symbols.hpp"

namespace collectives {
namespace {

// Where a rank stands: before its call, in iteration 0.., or after the last one, waiting for headers.
struct Position {
  int call = 0;
  int iteration = -1;
  int step = 0;
};

class TurnWalk {
 public:
  TurnWalk(const std::vector<std::vector<Program>>& turns, const SymbolicRun& options)
      : turns_(turns),
        options_(options),
        ranks_(static_cast<int>(turns[0].size())),
        lanes_(most(&Program::lanes)),
        credit_words_(most(&Program::credits)),
        rows_(most(&Program::rows)),
        chunks_(most(&Program::chunks)) {
    const std::size_t cells = at(ranks_ * chunks_ * options.tiles);
    inputs_.resize(cells);
    outputs_.resize(cells);
    stored_.resize(cells, -1);
    unread_.resize(cells, false);
    slots_.resize(at(ranks_ * options.halves * rows_ * options.stages));
    data_.resize(at(options.flag_halves * ranks_ * lanes_));
    credits_.resize(at(options.flag_halves * ranks_ * credit_words_));
    headers_.resize(at(ranks_ * ranks_));
    orders_.resize(turns.size() * at(chunks_));
    positions_.resize(at(ranks_));
    clocks_.resize(at(ranks_));
    for (int rank = 0; rank < ranks_; ++rank) clocks_[at(rank)][at(rank)] = 1;
  }

  std::string run() {
    for (bool moved = true; moved && fault_.empty();) {
      moved = false;
      for (int rank = 0; rank < ranks_ && fault_.empty(); ++rank)
        while (fault_.empty() && advance(rank)) moved = true;
    }
    for (int rank = 0; rank < ranks_ && fault_.empty(); ++rank)
      if (positions_[at(rank)].call < options_.calls) fault_ = "deadlock: " + where(rank) + " waits for ever";
    return fault_;
  }

 private:
  int most(int Program::*count) const {
    int most = 0;
    for (const auto& programs : turns_) most = std::max(most, programs[0].*count);
    return most;
  }
  std::size_t turn(int rank) const { return at(positions_[at(rank)].call) % turns_.size(); }
  const Program& program(int rank) const { return turns_[turn(rank)][at(rank)]; }
  int flag_half() const { return call_ % options_.flag_halves; }
  int iterations(int rank) const { return options_.tiles + program(rank).max_delay; }
  bool credited() const { return options_.tiles > options_.stages; }
  int flag_value(int call, int tile) const { return call * (options_.tiles + 1) + tile + 1; }
  bool gives(int rank, int chunk) const { return (program(rank).givers[at(chunk)] >> rank & 1u) != 0; }
  bool takes(int rank, int chunk) const { return (program(rank).takers[at(chunk)] >> rank & 1u) != 0; }
  std::size_t cell(int rank, int chunk, int tile) const { return at((rank * chunks_ + chunk) * options_.tiles + tile); }
  FlagWord& data(int rank, int lane) { return data_[at((flag_half() * ranks_ + rank) * lanes_ + lane)]; }
  FlagWord& credit(int rank, int credit) { return credits_[at((flag_half() * ranks_ + rank) * credit_words_ + credit)]; }
  FlagWord& header(int rank, int peer) { return headers_[at(rank * ranks_ + peer)]; }
  std::vector<Symbol>& outputs() { return options_.in_place ? inputs_ : outputs_; }
  /// As if both memories of a rank were one, which they may be.
  SlotState& slot(int owner, const Edge& edge, int tile) {
    const int half = call_ % options_.halves;
    return slots_[at(((owner * options_.halves + half) * rows_ + edge.row) * options_.stages + tile % options_.stages)];
  }
  /// Of what a rank receives, and of what it sends.
  SlotState& slot_from(int rank, const Edge& edge, int tile) { return slot(edge.offered ? edge.peer : rank, edge, tile); }
  SlotState& slot_to(int rank, const Edge& edge, int tile) { return slot(edge.offered ? rank : edge.peer, edge, tile); }

  bool omits(Sync what, int rank, int step, int edge) const {
    const Omission& omitted = options_.omitted;
    const auto matches = [](int wanted, int found) { return wanted < 0 || wanted == found; };
    return omitted.what == what && matches(omitted.rank, rank) && matches(omitted.step, step) && matches(omitted.edge, edge);
  }

  std::string where(int rank) const {
    const Position& position = positions_[at(rank)];
    if (position.iteration < 0) return fmt::format("rank {}, call {}, at its start", rank, position.call);
    if (position.iteration >= iterations(rank)) return fmt::format("rank {}, call {}, at its end", rank, position.call);
    const int tile = position.iteration - program(rank).steps[at(position.step)].delay;
    return fmt::format("rank {}, call {}, step {}, tile {},", rank, position.call, position.step, tile);
  }

  void fail(int rank, const std::string& what) {
    if (fault_.empty()) fault_ = where(rank) + " " + what;
  }

  // One action of a rank; false if it waits or has made all its calls. Waits change nothing, so a step's are taken together.
  bool advance(int rank) {
    Position& position = positions_[at(rank)];
    if (position.call == options_.calls) return false;
    call_ = position.call;
    if (position.iteration < 0) {
      begin(rank);
      position.iteration = 0;
      position.step = 0;
      return true;
    }
    if (position.iteration >= iterations(rank)) return end(rank);
    const auto& steps = program(rank).steps;
    while (at(position.step) < steps.size()) {
      const int tile = position.iteration - steps[at(position.step)].delay;
      const bool runs = tile >= 0 && tile < options_.tiles;
      if (runs && !play(rank, position.step, tile)) return false;
      ++position.step;
      if (runs) return true;
    }
    ++position.iteration;
    position.step = 0;
    return true;
  }

  void begin(int rank) {
    for (int chunk = 0; chunk < program(rank).chunks; ++chunk)
      for (int tile = 0; tile < options_.tiles && gives(rank, chunk); ++tile) inputs_[cell(rank, chunk, tile)] = input_of(rank, {call_, chunk, tile});
    for (int peer = 0; peer < ranks_ && options_.headers; ++peer)
      if (peer != rank && !omits(Sync::header_signal, rank, -1, peer)) signal(rank, header(peer, rank), call_ + 1, "a header");
    tick(rank);
  }

  bool end(int rank) {
    for (int pass = 0; pass < 2 && options_.headers; ++pass)
      for (int peer = 0; peer < ranks_; ++peer) {
        if (peer == rank || omits(Sync::header_wait, rank, -1, peer)) continue;
        const Clock* known = header(rank, peer).reached(call_ + 1);
        if (known == nullptr) return false;
        if (pass == 1) join(clocks_[at(rank)], *known);
      }
    for (int chunk = 0; chunk < program(rank).chunks; ++chunk)
      for (int tile = 0; tile < options_.tiles; ++tile) {
        if (takes(rank, chunk)) check_output(rank, chunk, tile);
        inputs_[cell(rank, chunk, tile)] = Symbol{};
        outputs_[cell(rank, chunk, tile)] = Symbol{};
      }
    positions_[at(rank)] = {call_ + 1, -1, 0};
    return true;
  }

  void check_output(int rank, int chunk, int tile) {
    const Symbol& found = outputs()[cell(rank, chunk, tile)];
    const std::string which = fmt::format("the output of chunk {}, tile {} ", chunk, tile);
    if (found.poison) return fail(rank, which + "was never written");
    if (found.tag != Tag{call_, chunk, tile}) return fail(rank, which + "holds something else");
    const RankMask givers = program(rank).givers[at(chunk)];
    for (int peer = 0; peer < ranks_; ++peer)
      if (found.counts[at(peer)] != (givers >> peer & 1u))
        return fail(rank, which + fmt::format("holds the input of rank {} {} times", peer, found.counts[at(peer)]));
    // One input alone is an average as it stands.
    if (found.divided != (std::has_single_bit(givers) ? 0 : 1)) return fail(rank, which + fmt::format("was marked complete {} times", found.divided));
    auto& order = orders_[turn(rank) * at(chunks_) + at(chunk)];
    if (!order) order = found.order;
    if (*order != found.order) return fail(rank, which + "was combined in another order than elsewhere");
    if (options_.rank_order && found.order != rank_order(givers))
      fail(rank, which + "was not combined in the order of the ranks in one step");
  }

  bool play(int rank, int index, int tile) {
    const Step& step = program(rank).steps[at(index)];
    if (!wait(rank, index, tile, false)) return false;
    wait(rank, index, tile, true);
    const Symbol result = take(rank, step, tile);
    for (std::size_t send = 0; send < step.sends.size(); ++send)
      if (!repeats(step, send)) write(rank, step.sends[send], tile, result);
    if (step.store) {
      if (!takes(rank, step.chunk)) fail(rank, "stores a chunk that it has no place for");
      store(rank, cell(rank, step.chunk, tile), result);
    }
    for (int edge = 0; at(edge) < step.sends.size() && options_.wire == Wire::flagged; ++edge)
      if (const Edge& send = step.sends[at(edge)]; !omits(Sync::data_signal, rank, index, edge))
        signal(rank, data(send.peer, send.lane), flag_value(call_, tile), "a data flag");
    for (int edge = 0; at(edge) < step.receives.size() && credited(); ++edge)
      if (const Edge& from = step.receives[at(edge)]; !omits(Sync::credit_signal, rank, index, edge))
        signal(rank, credit(from.peer, from.credit), flag_value(call_, tile), "a credit");
    tick(rank);
    return true;
  }

  // All waits of a step: whether they are over, or, if `acquire`, what they teach.
  bool wait(int rank, int index, int tile, bool acquire) {
    const Step& step = program(rank).steps[at(index)];
    const auto wait_for = [&](const FlagWord& word, int value) {
      const Clock* known = word.reached(value);
      if (known != nullptr && acquire) join(clocks_[at(rank)], *known);
      return known != nullptr;
    };
    for (int edge = 0; at(edge) < step.sends.size() && credited() && tile >= options_.stages; ++edge) {
      if (omits(Sync::credit_wait, rank, index, edge)) continue;
      if (!wait_for(credit(rank, step.sends[at(edge)].credit), flag_value(call_, tile - options_.stages))) return false;
    }
    for (int edge = 0; at(edge) < step.receives.size(); ++edge) {
      if (omits(Sync::data_wait, rank, index, edge)) continue;
      const Edge& from = step.receives[at(edge)];
      const bool there = options_.wire == Wire::flagged ? wait_for(data(rank, from.lane), flag_value(call_, tile)) : slot_from(rank, from, tile).full;
      if (!there) return false;
    }
    return true;
  }

  // Reads the slots and combines what they hold with the rank's own operand at its place.
  Symbol take(int rank, const Step& step, int tile) {
    std::vector<Symbol> operands;
    bool own_is_due = step.own != Own::none;
    int before = -1;
    for (const Edge& edge : step.receives) {
      if (edge.peer <= before) fail(rank, "combines what it receives in another order than that of the ranks");
      before = edge.peer;
      if (own_is_due && edge.peer > rank) {
        operands.push_back(own(rank, step, tile));
        own_is_due = false;
      }
      operands.push_back(read(rank, edge, tile));
    }
    if (own_is_due) operands.push_back(own(rank, step, tile));
    std::string fault;
    Symbol result = combine(operands, fault);
    if (!fault.empty()) fail(rank, fault);
    if (result.tag.chunk != step.chunk || result.tag.tile != tile) fail(rank, "takes another chunk or tile for this one");
    if (step.complete && !result.whole(program(rank).givers[at(step.chunk)])) fail(rank, "calls a result complete that is not");
    result.divided = static_cast<std::uint8_t>(std::min(0xfe, result.divided + (step.complete ? 1 : 0)));
    return result;
  }

  Symbol own(int rank, const Step& step, int tile) {
    const std::size_t index = cell(rank, step.chunk, tile);
    const bool stored = stored_[index] == call_;
    if (step.own == Own::output && !stored) fail(rank, "reads its output before writing it");
    if (step.own == Own::input && stored && options_.in_place) fail(rank, "reads an input that it has overwritten in place");
    if (step.own == Own::input) return inputs_[index];
    unread_[index] = false;
    return outputs()[index];
  }

  // A store over one that nothing has read was for nothing: never wrong, but never meant.
  void store(int rank, std::size_t index, const Symbol& symbol) {
    if (stored_[index] == call_ && unread_[index]) fail(rank, "stores over an output that nothing has read");
    outputs()[index] = symbol;
    stored_[index] = call_;
    unread_[index] = true;
  }

  Symbol read(int rank, const Edge& edge, int tile) {
    SlotState& found = slot_from(rank, edge, tile);
    const Clock& clock = clocks_[at(rank)];
    if (options_.wire == Wire::sentinel) {
      if (!found.full) fail(rank, fmt::format("reads an empty slot of lane {}", edge.lane));
      found.full = false;
    } else if (const int writer = found.accesses.writer_unknown_to(rank, clock); writer >= 0) {
      fail(rank, fmt::format("reads lane {} while rank {} may be writing it", edge.lane, writer));
    }
    found.accesses.note_read(rank, clock);
    return found.symbol;
  }

  void write(int rank, const Edge& edge, int tile, const Symbol& symbol) {
    SlotState& target = slot_to(rank, edge, tile);
    const Clock& clock = clocks_[at(rank)];
    if (target.full && options_.wire == Wire::sentinel)
      fail(rank, fmt::format("writes a slot of rank {}'s lane {} that was not read", edge.peer, edge.lane));
    if (const int reader = target.accesses.reader_unknown_to(rank, clock); reader >= 0)
      fail(rank, fmt::format("writes lane {} while rank {} may be reading it", edge.lane, reader));
    // On the sentinel wire the writer before is known through the reader, who has emptied the slot since.
    if (const int writer = target.accesses.writer_unknown_to(rank, clock); writer >= 0)
      fail(rank, fmt::format("writes rank {}'s lane {} while rank {} may be writing it", edge.peer, edge.lane, writer));
    target.symbol = symbol;
    target.full = true;
    target.accesses.note_write(rank, clock);
  }

  void signal(int rank, FlagWord& word, int value, const char* name) {
    if (!word.signal(rank, call_, value, clocks_[at(rank)])) fail(rank, fmt::format("signals {} that has another writer or does not grow", name));
  }

  // What follows a signal is not part of what it tells.
  void tick(int rank) { ++clocks_[at(rank)][at(rank)]; }

  const std::vector<std::vector<Program>>& turns_;
  const SymbolicRun& options_;
  const int ranks_;
  const int lanes_;
  const int credit_words_;
  const int rows_;
  const int chunks_;
  std::vector<Symbol> inputs_;
  std::vector<Symbol> outputs_;
  std::vector<int> stored_;   ///< the last call that stored an output cell
  std::vector<bool> unread_;  ///< since it was stored
  std::vector<SlotState> slots_;
  std::vector<FlagWord> data_;
  std::vector<FlagWord> credits_;
  std::vector<FlagWord> headers_;
  std::vector<std::optional<std::uint64_t>> orders_;  ///< how each chunk was combined first
  std::vector<Position> positions_;
  std::vector<Clock> clocks_;
  int call_ = 0;  ///< of the rank that acts
  std::string fault_;
};

std::string out_of_bounds(const Program& program, const Program& first, int index, int ranks) {
  const auto said = [&](const char* what) { return fmt::format("rank {}: {}", index, what); };
  if (program.rank != index || program.ranks != ranks) return said("its program is for another rank or number of ranks");
  if (program.chunks != first.chunks || program.lanes != first.lanes || program.credits != first.credits || program.rows != first.rows ||
      program.offers != first.offers || program.bounds != first.bounds || program.givers != first.givers || program.takers != first.takers)
    return said("its layout is not that of rank 0");
  for (const Step& step : program.steps) {
    if (step.chunk >= program.chunks) return said("a step's chunk is out of bounds");
    if (step.delay > program.max_delay) return said("a step's delay is out of bounds");
    for (const auto* edges : {&step.receives, &step.sends})
      for (const Edge& edge : *edges) {
        if (edge.peer >= ranks || edge.peer == index) return said("an edge's peer is out of bounds");
        if (edge.lane >= program.lanes) return said("an edge's lane is out of bounds");
        if (edge.credit >= program.credits) return said("an edge's credit is out of bounds");
        if (edge.row >= program.rows) return said("an edge's row of slots is out of bounds");
        if (edge.offered && !program.offers) return said("an edge is offered in a program that offers nothing");
      }
  }
  return {};
}

// Both ends of a lane name the same credit word and the same slots. A sender that waits for another's credit can be safe by chance, when
// that implies its own.
std::string miswired(const std::vector<Program>& programs) {
  using End = std::array<int, 7>;  // sender, receiver, lane, credit, row, common, offered
  std::vector<End> sent, received;
  for (const Program& program : programs)
    for (const Step& step : program.steps) {
      for (const Edge& edge : step.sends) sent.push_back({program.rank, edge.peer, edge.lane, edge.credit, edge.row, edge.common, edge.offered});
      for (const Edge& edge : step.receives) received.push_back({edge.peer, program.rank, edge.lane, edge.credit, edge.row, edge.common, edge.offered});
    }
  std::sort(sent.begin(), sent.end());
  std::sort(received.begin(), received.end());
  return sent == received ? std::string{} : "the two ends of a lane name different ranks, lanes, credits or slots";
}

}  // namespace

std::string verify(const std::vector<Program>& programs, const SymbolicRun& options) { return verify_in_turn({programs}, options); }

std::string verify_in_turn(const std::vector<std::vector<Program>>& turns, const SymbolicRun& options) {
  const int ranks = turns.empty() ? 0 : static_cast<int>(turns[0].size());
  if (ranks < 1 || ranks > max_ranks) return fmt::format("{} programs, where 1 to {} are expected", ranks, max_ranks);
  if (options.tiles < 1 || options.stages < 1 || options.calls < 1 || options.halves < 1)
    return "tiles, stages, calls and halves are at least 1";
  for (const auto& programs : turns) {
    if (programs.size() != turns[0].size()) return "programs for different numbers of ranks";
    if (programs[0].offers && options.wire != Wire::flagged) return "what is offered needs flags";
    for (int rank = 0; rank < ranks; ++rank)
      if (auto fault = out_of_bounds(programs[at(rank)], programs[0], rank, ranks); !fault.empty()) return fault;
  }
  std::string fault = TurnWalk(turns, options).run();
  for (const auto& programs : turns)
    if (fault.empty()) fault = miswired(programs);
  return fault;
}

}  // namespace collectives
