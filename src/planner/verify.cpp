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
        chunks_(most(&Program::chunks)),
        crews_(options.crews ? most_rounds() : 1) {
    const std::size_t cells = at(ranks_ * chunks_ * options.tiles);
    inputs_.resize(cells);
    outputs_.resize(cells);
    stored_.resize(cells, -1);
    unread_.resize(cells, false);
    memory_.resize(cells);
    slots_.resize(at(ranks_ * options.halves * rows_ * options.stages));
    data_.resize(at(options.flag_halves * ranks_ * lanes_));
    credits_.resize(at(options.flag_halves * ranks_ * credit_words_));
    headers_.resize(at(ranks_ * ranks_));
    orders_.resize(turns.size() * at(chunks_));
    progress_.resize(at(actors()));
    positions_.resize(at(actors()));
    clocks_.resize(at(actors()));
    for (int actor = 0; actor < std::min(actors(), max_ranks); ++actor) clocks_[at(actor)][at(actor)] = 1;
  }

  /// Each crew of each rank. A clock has room for max_ranks of them.
  int actors() const { return ranks_ * crews_; }

  std::string run() {
    for (bool moved = true; moved && fault_.empty();) {
      moved = false;
      for (actor_ = 0; actor_ < actors() && fault_.empty(); ++actor_)
        while (fault_.empty() && advance(rank_of(actor_))) moved = true;
    }
    for (actor_ = 0; actor_ < actors() && fault_.empty(); ++actor_)
      if (position().call < options_.calls) fault_ = "deadlock: " + where(rank_of(actor_)) + " waits for ever";
    return fault_;
  }

 private:
  int most(int Program::*count) const {
    int most = 0;
    for (const auto& programs : turns_) most = std::max(most, programs[0].*count);
    return most;
  }
  int most_rounds() const {
    int most = 0;
    for (const auto& programs : turns_)
      for (const Program& program : programs) most = std::max(most, program.max_delay + 1);
    return most;
  }
  int rank_of(int actor) const { return actor / crews_; }
  int crew() const { return actor_ % crews_; }
  Clock& clock() { return clocks_[at(actor_)]; }
  Position& position() { return positions_[at(actor_)]; }
  const Position& position() const { return positions_[at(actor_)]; }
  std::size_t turn() const { return at(position().call) % turns_.size(); }
  const Program& program(int rank) const { return turns_[turn()][at(rank)]; }
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
    const auto [call, iteration, step] = position();
    if (iteration < 0) return fmt::format("rank {}, call {}, at its start", rank, call);
    if (iteration >= iterations(rank)) return fmt::format("rank {}, call {}, at its end", rank, call);
    const int tile = iteration - program(rank).steps[at(step)].delay;
    return fmt::format("rank {}, call {}, step {}, tile {},", rank, call, step, tile);
  }

  void fail(int rank, const std::string& what) {
    if (fault_.empty()) fault_ = where(rank) + " " + what;
  }

  // One action of an actor; false if it waits or has made all its calls. Waits change nothing, so those of a batch are taken together. The first
  // crew of a rank begins and ends calls for all of them: a call is one kernel.
  bool advance(int rank) {
    Position& stands = position();
    if (stands.call == options_.calls) return false;
    call_ = stands.call;
    const bool leads = crew() == 0;
    if (stands.iteration < 0) {
      if (leads) begin(rank);
      return leads;
    }
    if (stands.iteration >= iterations(rank)) return leads && end(rank);
    const auto& steps = program(rank).steps;
    while (at(stands.step) < steps.size()) {
      const int delay = steps[at(stands.step)].delay, tile = stands.iteration - delay, next = end_of_batch(rank, stands.step);
      const bool runs = tile >= 0 && tile < options_.tiles && (crews_ == 1 || delay == crew());
      if (runs && !play(rank, stands.step, next, tile)) return false;
      stands.step = next;
      if (runs) return true;
    }
    ++stands.iteration;
    stands.step = 0;
    return true;
  }

  // A crew takes steps in a row together that only send, or that only keep what is finished.
  int end_of_batch(int rank, int first) const {
    const auto& steps = program(rank).steps;
    const auto only_keeps = [](const Step& step) { return step.receives.size() == 1 && step.own == Own::none && step.sends.empty() && step.store; };
    const Step& begun = steps[at(first)];
    int end = first + 1;
    for (; crews_ > 1 && at(end) < steps.size() && steps[at(end)].delay == begun.delay; ++end) {
      const bool both_send = begun.receives.empty() && steps[at(end)].receives.empty();
      if (!both_send && !(only_keeps(begun) && only_keeps(steps[at(end)]))) break;
    }
    return end;
  }

  void begin(int rank) {
    for (int chunk = 0; chunk < program(rank).chunks; ++chunk)
      for (int tile = 0; tile < options_.tiles && gives(rank, chunk); ++tile) inputs_[cell(rank, chunk, tile)] = input_of(rank, {call_, chunk, tile});
    for (int peer = 0; peer < ranks_ && options_.headers; ++peer)
      if (peer != rank && !omits(Sync::header_signal, rank, -1, peer)) signal(rank, header(peer, rank), call_ + 1, "a header");
    tick();
    for (int other = 1; other < crews_; ++other) join(clocks_[at(actor_ + other)], clock());
    place_crews({call_, 0, 0});
  }

  bool end(int rank) {
    for (int other = 1; other < crews_; ++other) {
      if (positions_[at(actor_ + other)].iteration < iterations(rank)) return false;
      join(clock(), clocks_[at(actor_ + other)]);
    }
    for (int pass = 0; pass < 2 && options_.headers; ++pass)
      for (int peer = 0; peer < ranks_; ++peer) {
        if (peer == rank || omits(Sync::header_wait, rank, -1, peer)) continue;
        const Clock* known = header(rank, peer).reached(call_ + 1);
        if (known == nullptr) return false;
        if (pass == 1) join(clock(), *known);
      }
    for (int chunk = 0; chunk < program(rank).chunks; ++chunk)
      for (int tile = 0; tile < options_.tiles; ++tile) {
        if (takes(rank, chunk)) check_output(rank, chunk, tile);
        inputs_[cell(rank, chunk, tile)] = Symbol{};
        outputs_[cell(rank, chunk, tile)] = Symbol{};
      }
    place_crews({call_ + 1, -1, 0});
    return true;
  }

  /// All crews of the rank whose first one acts.
  void place_crews(const Position& position) { std::fill_n(positions_.begin() + actor_, crews_, position); }

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
    auto& order = orders_[turn() * at(chunks_) + at(chunk)];
    if (!order) order = found.order;
    if (*order != found.order) return fail(rank, which + "was combined in another order than elsewhere");
    if (options_.rank_order && found.order != rank_order(givers))
      fail(rank, which + "was not combined in the order of the ranks in one step");
  }

  bool play(int rank, int first, int end, int tile) {
    for (const bool acquire : {false, true})
      for (int index = first; index < end; ++index)
        if (!wait(rank, index, tile, acquire)) return false;
    for (int index = first; index < end; ++index) act(rank, program(rank).steps[at(index)], tile);
    for (int index = first; index < end; ++index) tell(rank, index, tile);
    tick();
    return true;
  }

  void act(int rank, const Step& step, int tile) {
    const Symbol result = take(rank, step, tile);
    for (std::size_t send = 0; send < step.sends.size(); ++send)
      if (!repeats(step, send)) write(rank, step.sends[send], tile, result);
    if (!step.store) return;
    if (!takes(rank, step.chunk)) fail(rank, "stores a chunk that it has no place for");
    store(rank, cell(rank, step.chunk, tile), result);
  }

  void tell(int rank, int index, int tile) {
    const auto& steps = program(rank).steps;
    const Step& step = steps[at(index)];
    for (int edge = 0; at(edge) < step.sends.size() && options_.wire == Wire::flagged; ++edge)
      if (const Edge& send = step.sends[at(edge)]; !omits(Sync::data_signal, rank, index, edge))
        signal(rank, data(send.peer, send.lane), flag_value(call_, tile), "a data flag");
    for (int edge = 0; at(edge) < step.receives.size() && credited(); ++edge)
      if (const Edge& from = step.receives[at(edge)]; !omits(Sync::credit_signal, rank, index, edge))
        signal(rank, credit(from.peer, from.credit), flag_value(call_, tile), "a credit");
    const bool followed = at(index + 1) < steps.size() && steps[at(index + 1)].delay != step.delay;
    if (crews_ > 1 && followed && !omits(Sync::crew_signal, rank, index, -1)) signal(rank, progress_[at(actor_)], flag_value(call_, tile), "a crew's progress");
  }

  // All waits of a step: whether they are over, or, if `acquire`, what they teach.
  bool wait(int rank, int index, int tile, bool acquire) {
    const Step& step = program(rank).steps[at(index)];
    const auto wait_for = [&](const FlagWord& word, int value) {
      const Clock* known = word.reached(value);
      if (known != nullptr && acquire) join(clock(), *known);
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
    const int before = crews_ > 1 && !omits(Sync::crew_wait, rank, index, -1) ? crew_before(rank, index) : -1;
    return before < 0 || wait_for(progress_[at(rank * crews_ + before)], flag_value(call_, tile));
  }

  /// The last crew before this step's that has any steps.
  int crew_before(int rank, int index) const {
    const auto& steps = program(rank).steps;
    while (index >= 0 && steps[at(index)].delay == crew()) --index;
    return index < 0 ? -1 : steps[at(index)].delay;
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
    if (step.own == Own::output || options_.in_place) {
      if (memory_[index].writer_unknown_to(actor_, clock()) >= 0) fail(rank, "reads its own memory while another of its crews may be writing it");
      memory_[index].note_read(actor_, clock());
    }
    if (step.own == Own::output && !stored) fail(rank, "reads its output before writing it");
    if (step.own == Own::input && stored && options_.in_place) fail(rank, "reads an input that it has overwritten in place");
    if (step.own == Own::input) return inputs_[index];
    unread_[index] = false;
    return outputs()[index];
  }

  // A store over one that nothing has read was for nothing: never wrong, but never meant.
  void store(int rank, std::size_t index, const Symbol& symbol) {
    if (stored_[index] == call_ && unread_[index]) fail(rank, "stores over an output that nothing has read");
    const bool read = memory_[index].reader_unknown_to(actor_, clock()) >= 0, written = memory_[index].writer_unknown_to(actor_, clock()) >= 0;
    if (read || written) fail(rank, "writes its own memory while another of its crews may be at it");
    memory_[index].note_write(actor_, clock());
    outputs()[index] = symbol;
    stored_[index] = call_;
    unread_[index] = true;
  }

  Symbol read(int rank, const Edge& edge, int tile) {
    SlotState& found = slot_from(rank, edge, tile);
    if (options_.wire == Wire::sentinel) {
      if (!found.full) fail(rank, fmt::format("reads an empty slot of lane {}", edge.lane));
      found.full = false;
    } else if (const int writer = found.accesses.writer_unknown_to(actor_, clock()); writer >= 0) {
      fail(rank, fmt::format("reads lane {} while rank {} may be writing it", edge.lane, rank_of(writer)));
    }
    found.accesses.note_read(actor_, clock());
    return found.symbol;
  }

  void write(int rank, const Edge& edge, int tile, const Symbol& symbol) {
    SlotState& target = slot_to(rank, edge, tile);
    if (target.full && options_.wire == Wire::sentinel)
      fail(rank, fmt::format("writes a slot of rank {}'s lane {} that was not read", edge.peer, edge.lane));
    if (const int reader = target.accesses.reader_unknown_to(actor_, clock()); reader >= 0)
      fail(rank, fmt::format("writes lane {} while rank {} may be reading it", edge.lane, rank_of(reader)));
    // On the sentinel wire the writer before is known through the reader, who has emptied the slot since.
    if (const int writer = target.accesses.writer_unknown_to(actor_, clock()); writer >= 0)
      fail(rank, fmt::format("writes rank {}'s lane {} while rank {} may be writing it", edge.peer, edge.lane, rank_of(writer)));
    target.symbol = symbol;
    target.full = true;
    target.accesses.note_write(actor_, clock());
  }

  void signal(int rank, FlagWord& word, int value, const char* name) {
    if (!word.signal(actor_, call_, value, clock())) fail(rank, fmt::format("signals {} that has another writer or does not grow", name));
  }

  // What follows a signal is not part of what it tells.
  void tick() { ++clock()[at(actor_)]; }

  const std::vector<std::vector<Program>>& turns_;
  const SymbolicRun& options_;
  const int ranks_;
  const int lanes_;
  const int credit_words_;
  const int rows_;
  const int chunks_;
  const int crews_;  ///< of a rank: an actor is one of these
  std::vector<Symbol> inputs_;
  std::vector<Symbol> outputs_;
  std::vector<int> stored_;   ///< the last call that stored an output cell
  std::vector<bool> unread_;  ///< since it was stored
  std::vector<Accesses> memory_;  ///< a rank's outputs, and in place its inputs, as its crews share them
  std::vector<SlotState> slots_;
  std::vector<FlagWord> data_;
  std::vector<FlagWord> credits_;
  std::vector<FlagWord> headers_;
  std::vector<FlagWord> progress_;  ///< by actor
  std::vector<std::optional<std::uint64_t>> orders_;  ///< how each chunk was combined first
  std::vector<Position> positions_;
  std::vector<Clock> clocks_;
  int actor_ = 0;
  int call_ = 0;  ///< of the actor
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
  TurnWalk walk(turns, options);
  if (walk.actors() > max_ranks) return fmt::format("{} crews of all ranks, where at most {} are expected", walk.actors(), max_ranks);
  std::string fault = walk.run();
  for (const auto& programs : turns)
    if (fault.empty()) fault = miswired(programs);
  return fault;
}

}  // namespace collectives
