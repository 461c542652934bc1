// Facts about what `collectives plan` prints, that no update of the golden files can hide.
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "cli.hpp"
#include "cli/plan_text.hpp"
#include "test.hpp"

using namespace collectives;
using cli::Exit;
using nlohmann::json;

namespace {

json plan_of(const std::string& machine, cli::Words options) {
  options.insert(options.begin(), "plan");
  options.push_back("--json");
  const Answer answer = ask_of(machine, options);
  CAPTURE(answer.err);
  REQUIRE(answer.exit == Exit::healthy);
  return json::parse(answer.out);
}

/// How often each input is in the value that each rank ends with, if the moves are made as they stand.
std::vector<std::vector<int>> result_of(const json& plan, std::size_t channel) {
  const std::size_t ranks = plan["devices"].size();
  std::vector<std::vector<int>> values(ranks, std::vector<int>(ranks, 0));
  for (std::size_t rank = 0; rank < ranks; ++rank) values[rank][rank] = 1;
  std::map<int, std::vector<json>> rounds;
  for (const json& move : plan["moves"])
    if (move["channel"] == channel) rounds[move["round"]].push_back(move);
  for (const auto& [round, moves] : rounds) {
    const auto before = values;
    for (const json& move : moves) {
      auto& to = values[move["to"]];
      const auto& from = before[move["from"]];
      if (move["reduces"])
        std::transform(to.begin(), to.end(), from.begin(), to.begin(), std::plus<>());
      else
        to = from;
    }
  }
  return values;
}

}  // namespace

TEST_CASE("the printed schedule gives every rank every input once", "[cli][plan]") {
  for (const char* machine : machine_files)
    for (const char* bytes : {"8K", "1M", "256M"}) {
      CAPTURE(machine, bytes);
      const json plan = plan_of(machine, {"--bytes", bytes, "--schedule"});
      const std::size_t ranks = plan["devices"].size();
      double shares = 0;
      for (std::size_t channel = 0; channel < plan["shares"].size(); ++channel) {
        shares += plan["shares"][channel].get<double>();
        CHECK(result_of(plan, channel) == std::vector<std::vector<int>>(ranks, std::vector<int>(ranks, 1)));
      }
      CHECK(shares == Approx(1));
    }
}

TEST_CASE("the steps and bytes of the plan are those of its schedule", "[cli][plan]") {
  for (const char* machine : machine_files) {
    CAPTURE(machine);
    const json plan = plan_of(machine, {"--bytes", "64M", "--schedule"});
    std::vector<double> sent(plan["devices"].size(), 0);
    int rounds = 0;
    // Over flags, what passes host memory is written once for all that read it.
    const bool once = plan["plan"]["wire"] == "flagged";
    std::set<std::tuple<int, int, int>> offered;
    for (const json& move : plan["moves"]) {
      rounds = std::max(rounds, move["round"].get<int>() + 1);
      if (once && move["handover"] == "host" && !offered.emplace(move["round"], move["from"], move["channel"]).second) continue;
      sent[move["from"]] += plan["shares"][move["channel"].get<std::size_t>()].get<double>() * plan["bytes"].get<double>();
    }
    CHECK(plan["candidates"][0]["steps"] == rounds);
    CHECK(plan["candidates"][0]["bytes_per_rank"].get<double>() == Approx(*std::max_element(sent.begin(), sent.end())));
  }
}

TEST_CASE("no candidate moves its bytes faster than the bound", "[cli][plan]") {
  for (const char* machine : machine_files)
    for (const char* bytes : {"8K", "64M"}) {
      CAPTURE(machine, bytes);
      const json plan = plan_of(machine, {"--bytes", bytes});
      REQUIRE(plan["bound_us"].get<double>() > 0);
      for (const json& candidate : plan["candidates"]) {
        CAPTURE(candidate["algorithm"].get<std::string>());
        CHECK(candidate["gap"].get<double>() > -1e-6);
        CHECK(candidate["predicted_us"].get<double>() > plan["bound_us"].get<double>());
        CHECK_FALSE(candidate["busiest"].get<std::string>().empty());
        CHECK_FALSE(candidate["note"].get<std::string>().empty());
      }
      CHECK(plan["candidates"][0]["algorithm"] == plan["plan"]["algorithm"]);
    }
}

TEST_CASE("no candidate of any collective moves its bytes faster than its bound", "[cli][plan]") {
  for (const char* machine : machine_files)
    for (const char* collective : {"all_gather", "reduce_scatter", "broadcast", "reduce", "all_to_all", "gather", "scatter"})
      for (const char* root : {"0", "1"}) {
        const json plan = plan_of(machine, {"--bytes", "64M", "--collective", collective, "--root", root});
        CAPTURE(machine, plan.dump(2));
        REQUIRE(plan["bound_us"].get<double>() > 0);
        for (const json& candidate : plan["candidates"]) CHECK(candidate["gap"].get<double>() > -1e-6);
      }
}

TEST_CASE("a gap is shown where traffic takes time, and latency named where that does", "[cli][plan]") {
  for (const char* machine : machine_files) {
    int latency = 0;
    for (const char* bytes : {"1K", "16K", "256K", "4M", "256M"}) {
      const json plan = plan_of(machine, {"--bytes", bytes});
      const json& taken = plan["candidates"][0];
      CAPTURE(machine, bytes, taken.dump());
      CHECK(taken["traffic_us"].get<double>() == Approx((1 + taken["gap"].get<double>()) * plan["bound_us"].get<double>()));
      CHECK(taken["traffic_us"].get<double>() < taken["predicted_us"].get<double>());
      const bool waits = taken["traffic_us"].get<double>() < taken["predicted_us"].get<double>() / 2;
      latency += waits;
      const std::string text = ask_of(machine, {"plan", "--bytes", bytes}).out;
      CHECK((text.find("the rest of its time is latency") != std::string::npos) == waits);
      CHECK((text.find(" %  ") != std::string::npos) != waits);  // in the table
      CHECK((text.find("% more.") != std::string::npos) != waits);
    }
    CHECK((latency > 0 && latency < 5));
  }
}

TEST_CASE("bridged pairs are planned at least 2.5 times as fast as the best ring", "[cli][plan]") {
  const json plan = plan_of("nvlink_pairs_4x.json", {"--bytes", "256M"});
  for (const json& candidate : plan["candidates"])
    if (candidate["algorithm"] == "ring")
      CHECK(candidate["predicted_us"].get<double>() >= 2.5 * plan["plan"]["predicted_us"].get<double>());
}

TEST_CASE("ranks stand on the GPUs that were named, in that order", "[cli][plan]") {
  const json plan = plan_of("mixed_islands_7x.json", {"--ranks", "6,2,0", "--bytes", "1M"});
  CHECK(plan["devices"] == json({6, 2, 0}));
  const std::string text = ask_of("mixed_islands_7x.json", {"plan", "--ranks", "6,2,0", "--bytes", "1M"}).out;
  CHECK_THAT(text, ContainsSubstring("0:GPU6 1:GPU2 2:GPU0"));
}

TEST_CASE("bytes are those of the whole message, whatever the collective", "[cli][plan]") {
  for (const char* collective : {"all_reduce", "all_gather", "reduce_scatter", "broadcast", "reduce", "all_to_all", "gather", "scatter"}) {
    CAPTURE(collective);
    const json plan = plan_of("cube_mesh_8x.json", {"--bytes", "1M", "--collective", collective, "--schedule"});
    CHECK(plan["bytes"] == 1 << 20);
    CHECK(plan["collective"] == collective);
    CHECK(plan["moves"].size() > 0);
    for (const json& share : plan["shares"]) CHECK((share.get<double>() > 0 && share.get<double>() <= 1));
  }
}

TEST_CASE("the schedule is printed only when it is asked for", "[cli][plan]") {
  const cli::Words words{"plan", "--bytes", "64K"};
  CHECK(ask_of("chain_3x.json", words).out.find("round 1") == std::string::npos);
  CHECK_THAT(ask_of("chain_3x.json", {"plan", "--bytes", "64K", "--schedule"}).out, ContainsSubstring("round 1"));
  CHECK_FALSE(plan_of("chain_3x.json", {"--bytes", "64K"}).contains("moves"));
}

TEST_CASE("the drawing has an arrow for each way that a channel takes", "[cli][plan]") {
  const Machine machine = test_machine("nvlink_pairs_4x.json");
  cli::PlannedCall call{
      .machine = machine.name, .devices = {0, 1, 2, 3}, .request = {.count = 1 << 25, .type = DataType::bfloat16}, .report = {}};
  call.report = plan_call(machine, call.devices, call.request);
  const auto arrows = cli::arrows_of(call);
  std::map<std::tuple<int, int, int>, int> ways;
  for (const Move& move : call.report.moves) ++ways[{move.channel, move.from, move.to}];
  CHECK(arrows.size() == ways.size());
  const std::string dot = cli::to_dot(machine, arrows);
  std::size_t drawn = 0;
  for (std::size_t at = dot.find("tooltip=\"channel"); at != std::string::npos; at = dot.find("tooltip=\"channel", at + 1)) ++drawn;
  CHECK(drawn == arrows.size());
}

TEST_CASE("what cannot be planned is unusable and says what was expected", "[cli][plan]") {
  const auto complaint = [](cli::Words words) {
    words.insert(words.begin(), "plan");
    const Answer answer = ask_of("pcie_2x.json", words);
    CHECK(answer.exit == Exit::unusable);
    CHECK(answer.out == "");
    return answer.err;
  };
  CHECK_THAT(complaint({}), ContainsSubstring("expected --bytes SIZE"));
  CHECK_THAT(complaint({"--bytes", "much"}), ContainsSubstring("expected bytes such as"));
  CHECK_THAT(complaint({"--bytes", "1"}), ContainsSubstring("expected at least 2"));
  CHECK_THAT(complaint({"--bytes", "2", "--collective", "all_gather"}), ContainsSubstring("expected at least 4"));
  CHECK_THAT(complaint({"--bytes", "1M", "--ranks", "0,2"}), ContainsSubstring("no GPU 2: expected some of 0,1"));
  CHECK_THAT(complaint({"--bytes", "1M", "--ranks", "0,0"}), ContainsSubstring("named twice"));
  CHECK_THAT(complaint({"--bytes", "1M", "--ranks", "0"}), ContainsSubstring("2 to 16 ranks"));
  CHECK_THAT(complaint({"--bytes", "1M", "--ranks", "0;1"}), ContainsSubstring("is no list of GPUs"));
  CHECK_THAT(complaint({"--bytes", "1M", "--type", "fp17"}), ContainsSubstring("expected one of"));
  CHECK_THAT(complaint({"--bytes", "1M", "--op", "mean"}), ContainsSubstring("expected one of sum"));
  CHECK_THAT(complaint({"--bytes", "1M", "--collective", "allreduce"}), ContainsSubstring("expected one of all_reduce"));
  CHECK_THAT(complaint({"--bytes", "1M", "--collective", "reduce", "--root", "2"}), ContainsSubstring("root"));
}

TEST_CASE("a machine without GPUs has nothing to plan, and says how to describe one", "[cli][plan]") {
  const std::string path = std::filesystem::temp_directory_path() / ("collectives_no_gpu_" + std::to_string(getpid()) + ".json");
  std::ofstream(path) << R"({"format":1,"nodes":[{"kind":"cpu","numa":0}]})";
  for (const cli::Words& words :
       {cli::Words{"plan", "--bytes", "1M", "--machine", path}, cli::Words{"advise", "--tp", "2", "--machine", path}}) {
    const Answer answer = ask(words);
    CHECK(answer.exit == Exit::unusable);
    CHECK_THAT(answer.err, ContainsSubstring("--machine FILE"));
  }
  std::remove(path.c_str());
}

TEST_CASE("a schedule says of every move how it is handed over", "[cli]") {
  Machine machine = machine_of(3);
  for (Peer& peer : machine.peers) {
    peer.pulled = peer.from + peer.to == 1;
    peer.access = peer.from + peer.to != 3;
  }
  char file[] = "/tmp/collectives-machine-XXXXXX";
  ::close(::mkstemp(file));
  std::ofstream(file) << to_json(machine);
  const Answer answer = ask({"plan", "--machine", file, "--bytes", "1M", "--collective", "all_to_all", "--schedule"});
  const json plan = json::parse(ask({"plan", "--machine", file, "--bytes", "1M", "--collective", "all_to_all", "--schedule", "--json"}).out);
  const Answer small = ask({"plan", "--machine", file, "--ranks", "0,1", "--bytes", "4K", "--schedule"});
  const json small_plan = json::parse(ask({"plan", "--machine", file, "--ranks", "0,1", "--bytes", "4K", "--schedule", "--json"}).out);
  std::filesystem::remove(file);
  CHECK_THAT(small.out, ContainsSubstring("What receivers could read over links goes through host memory") && !ContainsSubstring("read by the receiver"));
  CHECK(small_plan["plan"]["through_host"] == true);
  for (const json& move : small_plan["moves"]) CHECK(move["handover"] == "host");
  CHECK_THAT(answer.out, ContainsSubstring(" 0 -> 1 ") && ContainsSubstring("copy, read by the receiver\n") && ContainsSubstring("copy, through host memory\n") && ContainsSubstring("copy\n"));
  REQUIRE(plan["moves"].size() == 6);
  for (const json& move : plan["moves"]) {
    const int ranks = move["from"].get<int>() + move["to"].get<int>();
    CHECK(move["handover"] == (ranks == 1 ? "pull" : ranks == 3 ? "host" : "push"));
  }
}
