#include "planner/program.hpp"

#include <algorithm>
#include <array>
#include <collectives/communicator.hpp>
#include <limits>
#include <numeric>
#include <string>
#include <tuple>

#include "base/require.hpp"

namespace collectives {
namespace {

// A step while rounds are still being read.
struct Draft {
  Step step;
  int ready = 0;                                   ///< the first round its result may be sent in
  int earliest = std::numeric_limits<int>::max();  ///< when the first of what it takes was ready at its sender
  bool reduces = false;
  std::array<int, 2> offered_row{-1, -1};  ///< in the pool and in common memory; none before it is offered there
};

// What a rank holds of a chunk. `current` is the draft whose result it is, none while it is the rank's own input.
struct Holding {
  int current = -1;
  RankMask inputs = 0;
};

class Lowering {
 public:
  Lowering(const Schedule& schedule, const SlotPlaces& places)
      : schedule_(schedule), places_(places), drafts_(count(schedule.ranks)), incoming_(drafts_.size(), 0), outgoing_(drafts_.size(), 0), rows_(drafts_.size(), 0) {
    givers_.resize(count(schedule.chunks), all_of(schedule.ranks));
    takers_ = givers_;
    std::copy(schedule.givers.begin(), schedule.givers.end(), givers_.begin());
    std::copy(schedule.takers.begin(), schedule.takers.end(), takers_.begin());
    bounds_.push_back(0);
    for (int chunk = 0; chunk < schedule.chunks; ++chunk) bounds_.push_back(bounds_.back() + (schedule.weights.empty() ? 1 : schedule.weights[count(chunk)]));
    for (int rank = 0; rank < schedule.ranks; ++rank)
      for (const RankMask givers : givers_) holdings_.push_back({-1, givers & mask_of(rank)});
  }

  std::vector<Program> run() {
    for (int round = 0; round < static_cast<int>(schedule_.rounds.size()); ++round) play(round);
    keep_results();
    int slack = 1;
    for (const auto& drafts : drafts_)
      for (const Draft& drafted : drafts) slack = std::max(slack, drafted.ready - drafted.earliest);
    std::vector<Program> programs;
    for (int rank = 0; rank < schedule_.ranks; ++rank) programs.push_back(program_of(rank, slack + 1));
    return programs;
  }

 private:
  struct Arrival {
    Action action;
    int rank;
    int chunk;
    RankMask inputs;
    int sent_at;
    Edge edge;
  };

  static std::size_t count(int n) { return static_cast<std::size_t>(n); }
  Holding& holding(int rank, int chunk) { return holdings_[count(rank * schedule_.chunks + chunk)]; }
  bool takes(int rank, int chunk) const { return (takers_[count(chunk)] & mask_of(rank)) != 0; }
  Draft& draft(int rank, int index) { return drafts_[count(rank)][count(index)]; }

  // Values are as they stood when the round began, so everything is sent before anything arrives.
  void play(int round) {
    std::vector<Arrival> arrivals;
    for (const Transfer& transfer : schedule_.rounds[count(round)]) arrivals.push_back(send(transfer, round));
    std::stable_sort(arrivals.begin(), arrivals.end(), [](const Arrival& a, const Arrival& b) {
      return std::tie(a.rank, a.chunk, a.edge.peer) < std::tie(b.rank, b.chunk, b.edge.peer);
    });
    for (std::size_t i = 0; i < arrivals.size(); ++i) {
      const bool first = i == 0 || arrivals[i - 1].rank != arrivals[i].rank || arrivals[i - 1].chunk != arrivals[i].chunk;
      require(first || (arrivals[i].action == Action::reduce && arrivals[i - 1].action == Action::reduce),
              "a rank that takes a copy of a chunk receives nothing else for it in that round");
      receive(arrivals[i], round, first);
    }
  }

  Arrival send(const Transfer& transfer, int round) {
    Holding& held = holding(transfer.from, transfer.chunk);
    require(held.inputs != 0, "a rank sends a chunk that it neither gives nor has received");
    if (held.current < 0) held.current = draft_of_input(transfer.from, transfer.chunk, round);
    Draft& sender = draft(transfer.from, held.current);
    const int lane = incoming_[count(transfer.to)]++;
    const int credit = outgoing_[count(transfer.from)]++;
    require(lane < max_lanes && credit < max_lanes, "a rank has more transfers than lanes");
    const bool common = is_set(places_.common, transfer), offered = is_set(places_.offered, transfer);
    const int row = row_for(transfer, sender, common, offered);
    const Edge edge{static_cast<std::uint8_t>(transfer.to), static_cast<std::uint8_t>(lane), static_cast<std::uint8_t>(credit), static_cast<std::uint8_t>(row), common, offered};
    sender.step.sends.push_back(edge);
    Arrival arrival{transfer.action, transfer.to, transfer.chunk, held.inputs, sender.ready, edge};
    arrival.edge.peer = static_cast<std::uint8_t>(transfer.from);
    // An input is read again for every round it is sent in, so that no receiver has to buffer it early.
    if (sender.step.receives.empty()) held.current = -1;
    return arrival;
  }

  static bool is_set(const std::vector<RankMask>& by_sender, const Transfer& transfer) {
    return !by_sender.empty() && (by_sender[count(transfer.from)] & mask_of(transfer.to)) != 0;
  }

  int row_for(const Transfer& transfer, Draft& sender, bool common, bool offered) {
    if (!offered) return rows_[count(transfer.to)]++;
    offers_ = true;
    int& row = sender.offered_row[common];
    if (row < 0) row = rows_[count(transfer.from)]++;
    return row;
  }

  int draft_of_input(int rank, int chunk, int round) {
    auto& drafts = drafts_[count(rank)];
    const auto same = std::find_if(drafts.begin(), drafts.end(),
                                   [&](const Draft& d) { return d.step.receives.empty() && d.step.chunk == chunk && d.ready == round; });
    if (same != drafts.end()) return static_cast<int>(same - drafts.begin());
    Draft fresh;
    fresh.step.chunk = static_cast<std::uint8_t>(chunk);
    fresh.step.own = Own::input;
    fresh.ready = round;
    drafts.push_back(fresh);
    return static_cast<int>(drafts.size()) - 1;
  }

  void receive(const Arrival& arrival, int round, bool first) {
    Holding& held = holding(arrival.rank, arrival.chunk);
    if (first && (arrival.action == Action::copy || !can_merge(arrival, held))) open(arrival, held);
    Draft& taker = draft(arrival.rank, held.current);
    taker.step.receives.push_back(arrival.edge);
    std::stable_sort(taker.step.receives.begin(), taker.step.receives.end(), [](const Edge& a, const Edge& b) { return a.peer < b.peer; });
    taker.ready = round + 1;
    taker.earliest = std::min(taker.earliest, arrival.sent_at);
    const RankMask all = givers_[count(arrival.chunk)];
    const bool was_whole = held.inputs == all || arrival.inputs == all;
    held.inputs = arrival.action == Action::copy ? arrival.inputs : held.inputs | arrival.inputs;
    taker.step.complete = arrival.action == Action::reduce && !was_whole && held.inputs == all;
  }

  bool can_merge(const Arrival& arrival, const Holding& held) {
    if (held.current < 0) return false;
    const Draft& current = draft(arrival.rank, held.current);
    const auto& receives = current.step.receives;
    return current.reduces && current.step.sends.empty() &&
           std::none_of(receives.begin(), receives.end(), [&](const Edge& edge) { return edge.peer == arrival.edge.peer; });
  }

  // A value that was sent on and is combined again passes through the output, which holds it as the peers got it: rounded.
  void open(const Arrival& arrival, Holding& held) {
    Draft fresh;
    fresh.step.chunk = static_cast<std::uint8_t>(arrival.chunk);
    fresh.reduces = arrival.action == Action::reduce;
    if (fresh.reduces && held.inputs != 0) fresh.step.own = held.current < 0 ? Own::input : Own::output;
    if (fresh.step.own == Own::output) {
      require(takes(arrival.rank, arrival.chunk), "a rank combines again what it has sent on, and has no output to keep it in");
      draft(arrival.rank, held.current).step.store = true;
    }
    drafts_[count(arrival.rank)].push_back(fresh);
    held.current = static_cast<int>(drafts_[count(arrival.rank)].size()) - 1;
  }

  void keep_results() {
    for (int rank = 0; rank < schedule_.ranks; ++rank)
      for (int chunk = 0; chunk < schedule_.chunks; ++chunk) {
        const Holding& held = holding(rank, chunk);
        if (!takes(rank, chunk) || held.inputs == 0) continue;
        draft(rank, held.current >= 0 ? held.current : last_draft_of_input(rank, chunk)).step.store = true;
      }
  }

  /// A rank that is left with its own input copies it. Last, for the input may be the output.
  int last_draft_of_input(int rank, int chunk) {
    int last = 0;
    for (const Draft& d : drafts_[count(rank)])
      if (d.step.receives.empty() && d.step.chunk == chunk) last = std::max(last, d.ready);
    return draft_of_input(rank, chunk, last);
  }

  Program program_of(int rank, int min_stages) {
    Program program{.rank = rank, .ranks = schedule_.ranks, .chunks = schedule_.chunks, .steps = {}, .bounds = bounds_, .givers = givers_, .takers = takers_};
    program.lanes = *std::max_element(incoming_.begin(), incoming_.end());
    program.credits = *std::max_element(outgoing_.begin(), outgoing_.end());
    program.rows = *std::max_element(rows_.begin(), rows_.end());
    program.offers = offers_;
    program.min_stages = min_stages;
    const auto distance = [&](const Edge& edge) { return (edge.peer - rank + schedule_.ranks) % schedule_.ranks; };
    std::size_t edges = 0;
    for (Draft& drafted : drafts_[count(rank)]) {
      Step& step = drafted.step;
      require(drafted.ready <= 0xff, "a schedule has more rounds than a delay can count");
      step.delay = static_cast<std::uint8_t>(drafted.ready);
      program.max_delay = std::max(program.max_delay, drafted.ready);
      std::stable_sort(step.sends.begin(), step.sends.end(), [&](const Edge& a, const Edge& b) { return distance(a) < distance(b); });
      edges += step.receives.size() + step.sends.size();
      program.steps.push_back(std::move(step));
    }
    const auto first_hop = [&](const Step& step) { return step.sends.empty() ? schedule_.ranks : distance(step.sends.front()); };
    std::stable_sort(program.steps.begin(), program.steps.end(), [&](const Step& a, const Step& b) {
      const bool takes_a = !a.receives.empty(), takes_b = !b.receives.empty();
      return std::tuple(a.delay, takes_a, first_hop(a)) < std::tuple(b.delay, takes_b, first_hop(b));
    });
    require(program.steps.size() <= max_steps && edges <= max_edges, [&] {
      return "rank " + std::to_string(rank) + " needs " + std::to_string(program.steps.size()) + " steps and " + std::to_string(edges) +
             " edges";
    });
    return program;
  }

  const Schedule& schedule_;
  const SlotPlaces& places_;
  std::vector<std::vector<Draft>> drafts_;  ///< by rank, in the order they were opened
  std::vector<Holding> holdings_;           ///< by rank and chunk
  std::vector<int> incoming_;
  std::vector<int> outgoing_;
  std::vector<int> rows_;  ///< of slots, in each rank's memories together
  bool offers_ = false;
  std::vector<std::uint32_t> bounds_;
  std::vector<RankMask> givers_, takers_;  ///< by chunk
};

void require_in_range(const Schedule& schedule) {
  require(schedule.ranks >= 1 && schedule.ranks <= max_ranks, "a schedule has 1 to 16 ranks");
  require(schedule.chunks >= 1 && schedule.chunks <= max_chunks, "a schedule has 1 to 256 chunks");
  const auto is_per_chunk = [&](const auto& list) { return list.empty() || list.size() == static_cast<std::size_t>(schedule.chunks); };
  require(is_per_chunk(schedule.weights) && is_per_chunk(schedule.givers) && is_per_chunk(schedule.takers),
          "a schedule has a weight, givers and takers for each of its chunks, or none for all of them");
  const std::uint64_t weight = std::accumulate(schedule.weights.begin(), schedule.weights.end(), std::uint64_t{0});
  require(schedule.weights.empty() || (weight > 0 && weight <= 0xffffffffu), "the weights of a schedule's chunks are 1 to 2^32 - 1 together");
  const auto is_rank = [&](int rank) { return rank >= 0 && rank < schedule.ranks; };
  for (const auto& round : schedule.rounds)
    for (const Transfer& transfer : round)
      require(is_rank(transfer.from) && is_rank(transfer.to) && transfer.from != transfer.to && transfer.chunk >= 0 &&
                  transfer.chunk < schedule.chunks,
              "a transfer goes from a rank to another and names one of the schedule's chunks");
}

}  // namespace

bool repeats(const Step& step, std::size_t send) {
  const Edge& edge = step.sends[send];
  const auto end = step.sends.begin() + static_cast<std::ptrdiff_t>(send);
  return edge.offered && std::any_of(step.sends.begin(), end, [&](const Edge& before) { return before.offered && before.common == edge.common && before.row == edge.row; });
}

std::vector<Program> lower(const Schedule& schedule, const SlotPlaces& places) {
  require_in_range(schedule);
  for (const auto* by_sender : {&places.common, &places.offered})
    require(by_sender->empty() || by_sender->size() == static_cast<std::size_t>(schedule.ranks), "where slots lie is said of every rank, or of none");
  return Lowering(schedule, places).run();
}

std::size_t chunk_begin(const Program& program, std::size_t packs, int chunk) {
  const std::size_t whole = program.bounds.back(), before = program.bounds[static_cast<std::size_t>(chunk)];
  // packs * before / whole without its 96 bits.
  return packs / whole * before + packs % whole * before / whole;
}

std::size_t longest_chunk(const Program& program, std::size_t packs) {
  std::size_t longest = 0;
  for (int chunk = 0; chunk < program.chunks; ++chunk)
    longest = std::max(longest, chunk_begin(program, packs, chunk + 1) - chunk_begin(program, packs, chunk));
  return longest;
}

}  // namespace collectives
