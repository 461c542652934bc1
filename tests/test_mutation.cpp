// What the verifier is worth: every single fault in the data of a program must be reported, and how many of the faults in its
// synchronisation are (those that survive are waits or signals that something else already implies) is printed.
#include <fmt/format.h>

#include <functional>
#include <map>

#include "planner/verify.hpp"
#include "planner_cases.hpp"
#include "test.hpp"

using namespace collectives;

namespace {

struct Tally {
  int seeded = 0;
  std::vector<std::string> survivors;
};

// With more tiles than stages credits order slots within a call; with as many, on the sentinel wire, headers alone do over calls.
bool survives(const std::vector<Program>& programs, Omission omitted = {}) {
  struct Setting {
    int tiles;
    Wire wire;
    bool in_place;
  };
  for (auto [tiles, wire, in_place] : {Setting{3, Wire::flagged, false}, Setting{3, Wire::sentinel, true}, Setting{2, Wire::sentinel, false}}) {
    if (programs[0].offers) wire = Wire::flagged;
    SymbolicRun options{.tiles = tiles, .stages = 2};
    options.wire = wire;
    options.in_place = in_place;
    options.omitted = omitted;
    if (!verify(programs, options).empty()) return false;
  }
  return true;
}

std::uint8_t next_of(int value, int count) { return static_cast<std::uint8_t>((value + 1) % count); }

using Mutation = std::function<void(const std::string& name)>;

// Changes one edge of `edges` in every way there is, and calls `tell` while each change is in place.
void mutate_edges(std::vector<Edge>& edges, const Program& program, const std::string& name, const Mutation& tell) {
  const auto whole = edges;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    const auto changed = [&](const char* what, auto&& change) {
      change(edges[i]);
      tell(fmt::format("{} {} {}", name, i, what));
      edges = whole;
    };
    edges.erase(edges.begin() + static_cast<std::ptrdiff_t>(i));
    tell(fmt::format("{} {} dropped", name, i));
    edges = whole;
    edges.insert(edges.begin() + static_cast<std::ptrdiff_t>(i), whole[i]);
    tell(fmt::format("{} {} duplicated", name, i));
    edges = whole;
    if (program.lanes > 1) changed("lane", [&](Edge& edge) { edge.lane = next_of(edge.lane, program.lanes); });
    if (program.credits > 1) changed("credit", [&](Edge& edge) { edge.credit = next_of(edge.credit, program.credits); });
    if (program.rows > 1) changed("row", [&](Edge& edge) { edge.row = next_of(edge.row, program.rows); });
    if (program.offers) changed("end", [&](Edge& edge) { edge.offered = !edge.offered; });
    if (program.offers) changed("memory", [&](Edge& edge) { edge.common = !edge.common; });
    if (program.ranks > 2)
      changed("peer", [&](Edge& edge) {
        do edge.peer = next_of(edge.peer, program.ranks);
        while (edge.peer == program.rank);
      });
  }
}

void mutate_step(Step& step, const Program& program, const std::string& name, const Mutation& tell) {
  const Step whole = step;
  const auto changed = [&](const char* what, auto&& change) {
    change(step);
    tell(name + what);
    step = whole;
  };
  if (program.chunks > 1) changed(" chunk", [&](Step& s) { s.chunk = next_of(s.chunk, program.chunks); });
  changed(" own", [](Step& s) { s.own = static_cast<Own>((static_cast<int>(s.own) + 1) % 3); });
  changed(" own", [](Step& s) { s.own = static_cast<Own>((static_cast<int>(s.own) + 2) % 3); });
  changed(" store", [](Step& s) { s.store = !s.store; });
  changed(" complete", [](Step& s) { s.complete = !s.complete; });
  mutate_edges(step.receives, program, name + " receive", tell);
  mutate_edges(step.sends, program, name + " send", tell);
}

void mutate_data(std::vector<Program>& programs, const Mutation& tell) {
  for (Program& program : programs) {
    for (std::size_t index = 0; index < program.steps.size(); ++index)
      mutate_step(program.steps[index], program, fmt::format("rank {} step {}", program.rank, index), tell);
    const auto whole = program.steps;
    for (std::size_t index = 0; index < whole.size(); ++index) {
      program.steps.erase(program.steps.begin() + static_cast<std::ptrdiff_t>(index));
      tell(fmt::format("rank {} step {} dropped", program.rank, index));
      program.steps = whole;
      program.steps.insert(program.steps.begin() + static_cast<std::ptrdiff_t>(index), whole[index]);
      tell(fmt::format("rank {} step {} duplicated", program.rank, index));
      program.steps = whole;
    }
  }
}

Tally data_faults(AlgorithmChoice choice, int ranks, const SlotPlaces& places) {
  Tally tally;
  auto programs = lower(build_schedule(choice, ranks), places);
  mutate_data(programs, [&](const std::string& name) {
    ++tally.seeded;
    if (survives(programs)) tally.survivors.push_back(fmt::format("{} on {}: {}", to_string(choice), ranks, name));
  });
  return tally;
}

void omit_each(const std::vector<Program>& programs, Sync what, Tally& tally) {
  const auto seed = [&](int rank, int step, int edge) {
    ++tally.seeded;
    if (survives(programs, {what, rank, step, edge})) tally.survivors.push_back(fmt::format("rank {} step {} edge {}", rank, step, edge));
  };
  const bool of_receives = what == Sync::data_wait || what == Sync::credit_signal;
  for (const Program& program : programs) {
    if (what == Sync::header_wait || what == Sync::header_signal) {
      for (int peer = 0; peer < program.ranks; ++peer)
        if (peer != program.rank) seed(program.rank, -1, peer);
      continue;
    }
    for (int step = 0; step < static_cast<int>(program.steps.size()); ++step) {
      const Step& found = program.steps[static_cast<std::size_t>(step)];
      const auto edges = static_cast<int>((of_receives ? found.receives : found.sends).size());
      for (int edge = 0; edge < edges; ++edge) seed(program.rank, step, edge);
    }
  }
}

void require_no_data_survivors(const std::vector<int>& rank_counts) {
  int seeded = 0;
  for (const int ranks : rank_counts)
    for (const AlgorithmChoice choice : every_algorithm())
      for (const auto& places : ways_to_place(ranks)) {
        const Tally tally = data_faults(choice, ranks, places);
        seeded += tally.seeded;
        CHECK(tally.survivors == std::vector<std::string>{});
      }
  fmt::print("data faults: {} seeded, all must be found\n", seeded);
}

}  // namespace

TEST_CASE("every dropped, duplicated or misdirected edge, step or flag of a program is found", "[planner][verify][mutation][heavy]") {
  require_no_data_survivors({2, 3, 4, 5, 7});
}

TEST_CASE("every such fault is found on every rank count", "[planner][verify][mutation][.slow]") {
  require_no_data_survivors({6, 8, 9, 10, 11, 12, 13, 14, 15, 16});
}

TEST_CASE("what is left out of the synchronisation is found unless something else implies it", "[planner][verify][mutation][heavy]") {
  const std::pair<Sync, const char*> kinds[] = {{Sync::data_wait, "data wait"},     {Sync::data_signal, "data signal"},
                                                {Sync::credit_wait, "credit wait"}, {Sync::credit_signal, "credit signal"},
                                                {Sync::header_wait, "header wait"}, {Sync::header_signal, "header signal"}};
  fmt::print("{:<14} {:>8} {:>10}   survivors by algorithm\n", "left out", "seeded", "survivors");
  for (const auto& [what, name] : kinds) {
    int seeded = 0, survivors = 0;
    std::string by_algorithm;
    for (const AlgorithmChoice choice : every_algorithm()) {
      Tally tally;
      for (const int ranks : {2, 3, 4, 5, 8})
        for (const auto& places : ways_to_place(ranks)) omit_each(lower(build_schedule(choice, ranks), places), what, tally);
      seeded += tally.seeded;
      survivors += static_cast<int>(tally.survivors.size());
      if (!tally.survivors.empty()) by_algorithm += fmt::format(" {} {}/{}", to_string(choice), tally.survivors.size(), tally.seeded);
      // Without data flags a reader takes what it finds; without a signal someone waits for ever.
      const bool never_implied = what != Sync::credit_wait && what != Sync::header_wait;
      CAPTURE(name, to_string(choice), tally.survivors);
      if (never_implied) CHECK(tally.survivors.empty());
    }
    CHECK(survivors < seeded);
    fmt::print("{:<14} {:>8} {:>10}  {}\n", name, seeded, survivors, by_algorithm);
  }
}
