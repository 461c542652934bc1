// The command as a whole: subcommands, exit status, what bad words get.
#include <stdlib.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli.hpp"
#include "cli/options.hpp"
#include "test.hpp"
#include "variable.hpp"

using cli::Exit;

namespace {

constexpr const char* subcommands[] = {"topo", "plan", "advise"};

/// What a subcommand cannot do without.
cli::Words words_for(const std::string& name, const std::string& machine) {
  cli::Words words{name, "--machine", machine};
  if (name == "plan") words.insert(words.end(), {"--bytes", "1M"});
  if (name == "advise") words.insert(words.end(), {"--tp", "2"});
  return words;
}

}  // namespace

TEST_CASE("the command's help lists its subcommands and exit status", "[cli]") {
  for (const char* word : {"--help", "-h", "help"}) {
    const Answer answer = ask({word});
    CHECK(answer.exit == Exit::healthy);
    for (const char* name : subcommands) CHECK_THAT(answer.out, ContainsSubstring(name));
    CHECK_THAT(answer.out, ContainsSubstring("5 unusable"));
  }
}

TEST_CASE("every subcommand explains its options", "[cli]") {
  for (const char* name : subcommands) {
    const Answer answer = ask({name, "--help"});
    CAPTURE(name);
    CHECK(answer.exit == Exit::healthy);
    CHECK_THAT(answer.out, ContainsSubstring("--machine"));
    CHECK_THAT(answer.out, ContainsSubstring("--json"));
  }
}

TEST_CASE("words that are not understood are unusable and say what was expected", "[cli]") {
  CHECK(ask({}).exit == Exit::unusable);
  CHECK_THAT(ask({}).err, ContainsSubstring("expected a subcommand"));
  CHECK(ask({"topology"}).exit == Exit::unusable);
  CHECK_THAT(ask({"topology"}).err, ContainsSubstring("expected one of"));
  for (const char* name : subcommands) {
    CAPTURE(name);
    const Answer unknown = ask({name, "--no-such-option"});
    CHECK(unknown.exit == Exit::unusable);
    CHECK(unknown.out == "");
    CHECK_THAT(unknown.err, ContainsSubstring("--no-such-option"));
    const Answer missing = ask(words_for(name, "/no/such/machine.json"));
    CHECK(missing.exit == Exit::unusable);
    CHECK_THAT(missing.err, ContainsSubstring("/no/such/machine.json"));
  }
}

TEST_CASE("a file that describes no machine is unusable, with line and column", "[cli]") {
  const Answer answer = ask({"topo", "--machine", std::string(TEST_PROJECT_DIR) + "/README.md"});
  CHECK(answer.exit == Exit::unusable);
  CHECK_THAT(answer.err, ContainsSubstring("expected"));
}

TEST_CASE("for programs there is JSON of every answer", "[cli]") {
  for (const char* name : subcommands) {
    CAPTURE(name);
    cli::Words words = words_for(name, machine_path("chain_3x.json"));
    words.push_back("--json");
    const Answer answer = ask(words);
    CHECK(answer.exit == Exit::healthy);
    CHECK(nlohmann::json::accept(answer.out));
    CHECK_FALSE(nlohmann::json::parse(answer.out).empty());
  }
}

TEST_CASE("an answer that cannot be written is unusable", "[cli]") {
  std::ostringstream out, err;
  out.setstate(std::ios::badbit);
  CHECK(cli::run({"topo", "--machine", machine_path("pcie_2x.json")}, out, err) == Exit::unusable);
}

TEST_CASE("sizes take units of 1024 and nothing else", "[cli]") {
  CHECK(cli::parse_bytes("0") == 0);
  CHECK(cli::parse_bytes("1") == 1);
  CHECK(cli::parse_bytes("64K") == 65536);
  CHECK(cli::parse_bytes("1.5M") == 1572864);
  CHECK(cli::parse_bytes("140G") == 150323855360);
  CHECK(cli::parse_bytes("1T") == std::size_t{1} << 40);
  for (const char* text : {"", "M", "-1", "1 M", "1MB", "1KK", "nan", "inf", "0x10", "1e30", "2000T"}) {
    CAPTURE(text);
    CHECK_THROWS_WITH(cli::parse_bytes(text), ContainsSubstring("is no size: expected bytes such as"));
  }
}

TEST_CASE("lists of GPUs are ordinals with commas and nothing else", "[cli]") {
  CHECK(cli::parse_devices("0") == std::vector<int>{0});
  CHECK(cli::parse_devices("3,1,12") == std::vector<int>{3, 1, 12});
  for (const char* text : {"", ",", "0,", ",0", "0,,1", "-1", "0;1", "0 1", "a", "99999999999999"}) {
    CAPTURE(text);
    CHECK_THROWS_WITH(cli::parse_devices(text), ContainsSubstring("is no list of GPUs"));
  }
}

TEST_CASE("types have the library's names and the models' short ones", "[cli]") {
  using collectives::DataType;
  CHECK(cli::parse_type("bf16") == DataType::bfloat16);
  CHECK(cli::parse_type("bfloat16") == DataType::bfloat16);
  CHECK(cli::parse_type("fp32") == DataType::float32);
  CHECK(cli::parse_type("float") == DataType::float32);
  CHECK_THROWS_WITH(cli::parse_type("bf17"), ContainsSubstring("expected one of float"));
}

TEST_CASE("CPU ranks are tuned by the command, which says what was taken and measured", "[cli][tune]") {
  char folder[] = "/tmp/collectives-cli-tune.XXXXXX";
  const collectives::Variable cache("XDG_CACHE_HOME", ::mkdtemp(folder));
  const std::filesystem::path kept = std::filesystem::path(folder) / "collectives";
  const cli::Words words = {"tune", "--host", "3", "--largest", "16K", "--budget-ms", "20000"};
  const auto with = [&](cli::Words more) {
    more.insert(more.begin(), words.begin(), words.end());
    return ask(more);
  };
  const Answer looked = with({"--no-keep", "--tp", "2"});
  CHECK(looked.exit == Exit::healthy);
  CHECK_THAT(looked.out, ContainsSubstring("2 CPU ranks: all that may be the fastest was measured in ") && ContainsSubstring("ms, not kept."));
  CHECK_FALSE(std::filesystem::exists(kept));

  const Answer answer = with({"--json", "--collectives", "all_reduce,all_gather", "--tp", "2,3"});
  CHECK(answer.exit == Exit::healthy);
  const auto all = nlohmann::json::parse(answer.out);
  REQUIRE(all.size() == 2);
  CHECK(all[0]["devices"] == std::vector<int>{0, 1});
  CHECK(all[1]["devices"] == std::vector<int>{0, 1, 2});
  for (const auto& group : all) {
    CHECK(group["kept"] == true);
    REQUIRE(group["sizes"].size() == 9);  // three sizes: sums of floats and of integers, and gathers
    for (const auto& size : group["sizes"]) CHECK(size["after"]["measured_us"].get<double>() > 0);
  }
  CHECK(std::distance(std::filesystem::directory_iterator(kept), {}) == 2);

  const Answer late = ask({"tune", "--host", "2", "--budget-ms", "0"});
  CHECK(late.exit == Exit::inconclusive);
  CHECK_THAT(late.out, ContainsSubstring("the time was up"));
  for (const cli::Words& wrong : {cli::Words{"tune", "--host", "1"}, {"tune", "--host", "2", "--tp", "3"}, {"tune", "--host", "2", "--collectives", "all_to_all"},
                                  {"tune", "--host", "2", "--collectives", ""}, {"tune", "--host", "2", "--largest", "100"}, {"tune", "--gpus", "x"}})
    CHECK(ask(wrong).exit == Exit::unusable);
  std::filesystem::remove_all(folder);
}
