// The doctor's judgement, on what was made up for it, and the whole command where there is no GPU.
#include <fcntl.h>
#include <sys/wait.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli.hpp"
#include "cli/diagnosis.hpp"
#include "cli/examine.hpp"
#include "fake_prober.hpp"
#include "test.hpp"
#include "variable.hpp"

using namespace collectives;
using cli::diagnose;
using cli::Examination;
using cli::Exit;

namespace {

/// Every pair that the machine claims, right by every method at this rate.
Examination healthy(const std::string& file, double gb_per_s) {
  Examination seen;
  seen.machine = test_machine(file);
  for (const Peer& peer : seen.machine.peers)
    for (const Method method : {Method::store, Method::load, Method::copy_engine, Method::flag})
      if (peer.access)
        seen.verification.links.push_back({{seen.machine.nodes[peer.from].device, seen.machine.nodes[peer.to].device}, method, Verdict::ok, -1,
                                           method == Method::flag ? 0 : gb_per_s, method == Method::flag ? 1.0 : 0, ""});
  seen.ranks = 4;
  for (const std::size_t bytes : {4, 65536}) {
    seen.all_reduce.push_back({.bytes = bytes, .right = true, .us = 10, .plan = "one_shot", .error = {}});
    seen.control.push_back({.bytes = bytes, .right = true, .us = 30, .plan = "one_shot", .error = {}});
  }
  return seen;
}

LinkVerdict& first(Examination& seen, Method method) {
  for (LinkVerdict& link : seen.verification.links)
    if (link.method == method) return link;
  throw Error(ErrorCode::internal, "no such link");
}

/// Four GPUs that claim every peer, by a prober with these faults. The verdicts go into a folder that is gone afterwards.
Examination examined(const std::vector<std::string>& faults, const char* injection = nullptr) {
  char folder[] = "/tmp/collectives-doctor-XXXXXX";
  const Variable cache("XDG_CACHE_HOME", ::mkdtemp(folder));
  VerifyOptions options;
  options.prober = fake_prober(faults);
  options.start_timeout = std::chrono::milliseconds(3000);
  options.step_timeout = std::chrono::milliseconds(500);
  options.all_reduce_timeout = std::chrono::milliseconds(3000);
  if (injection) options.injection = parse_injection(injection);
  const Examination seen = cli::examine(options, [] { return machine_of(4); });
  std::filesystem::remove_all(folder);
  return seen;
}

/// The children that the doctor left to themselves, each of which must have ended well.
int abandoned_children() {
  int children = 0, status = 0;
  for (; ::waitpid(-1, &status, 0) > 0; ++children) CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 0));
  return children;
}

bool all_right(const std::vector<AllReduceCheck>& checks) {
  return checks.size() == 3 && std::all_of(checks.begin(), checks.end(), [](const AllReduceCheck& check) { return check.right; });
}

std::string text_of(const Examination& seen) { return to_text(seen, diagnose(seen)); }

}  // namespace

TEST_CASE("a machine on which all is right is healthy, and nothing is found", "[cli][doctor]") {
  const Examination seen = healthy("nvswitch_8x.json", 370);
  const auto diagnosis = diagnose(seen);
  CHECK(diagnosis.exit == Exit::healthy);
  CHECK(diagnosis.findings.empty());
  const std::string text = to_text(seen, diagnosis);
  CHECK_THAT(text, ContainsSubstring("GPU7>GPU6") && ContainsSubstring("Nothing is wrong: healthy") && ContainsSubstring("checked element by element"));
}

TEST_CASE("the exit status is that of the worst that was found", "[cli][doctor]") {
  Examination seen = healthy("nvswitch_8x.json", 370);
  first(seen, Method::copy_engine).verdict = Verdict::inconclusive;
  CHECK(diagnose(seen).exit == Exit::inconclusive);
  first(seen, Method::load).verdict = Verdict::wrong_data;
  CHECK(diagnose(seen).exit == Exit::wrong_data);
  first(seen, Method::flag).verdict = Verdict::hang;
  first(seen, Method::flag).reason = "the flag did not come";
  const auto diagnosis = diagnose(seen);
  CHECK(diagnosis.exit == Exit::hang);
  REQUIRE(diagnosis.findings.size() == 3);
  CHECK_THAT(diagnosis.findings[0].what, ContainsSubstring("flag: hang: the flag did not come"));
  for (const auto& finding : diagnosis.findings) CHECK_FALSE(finding.remedy.empty());
  CHECK_THAT(text_of(seen), ContainsSubstring("In all: hang"));
}

TEST_CASE("an all-reduce that fails counts by how it fails, unless the control fails, too", "[cli][doctor]") {
  Examination seen = healthy("pcie_2x.json", 26);
  AllReduceCheck& check = seen.all_reduce[1];
  check.right = false, check.wrong_elements = 17;
  CHECK(diagnose(seen).exit == Exit::wrong_data);
  CHECK_THAT(text_of(seen), ContainsSubstring("17 wrong elements"));
  check.error = "rank 1 did not come", check.timed_out = true;
  CHECK(diagnose(seen).exit == Exit::hang);
  seen.control[0].right = false;
  seen.control[0].error = "no memory";
  CHECK(diagnose(seen).exit == Exit::inconclusive);
  CHECK_THAT(text_of(seen), ContainsSubstring("through host memory fails") && ContainsSubstring("no memory"));
}

TEST_CASE("slow links, collapsed flows and a machine's own faults are found, and leave it healthy", "[cli][doctor]") {
  Examination seen = healthy("pcie_switches_8x.json", 26);
  for (Peer& peer : seen.machine.peers) peer.gb_per_s = 26;
  const auto before = diagnose(seen).findings.size();
  first(seen, Method::store).gb_per_s = 3;
  seen.verification.flows.push_back({{0, 1}, {2, 3}, Method::store, 2.7, 37, true});
  seen.machine.iommu = "translated";
  seen.machine.nodes[0].mig = true;
  const auto diagnosis = diagnose(seen);
  CHECK(diagnosis.exit == Exit::healthy);
  CHECK(diagnosis.findings.size() == before + 4);
  CHECK_THAT(text_of(seen), ContainsSubstring("stores reach 3 GB/s") && ContainsSubstring("2.70 GB/s together") && ContainsSubstring("iommu=pt") && ContainsSubstring("MIG"));
}

TEST_CASE("pairs that the driver refuses are listed once for each reason", "[cli][doctor]") {
  const Examination seen = healthy("pcie_no_peers_8x.json", 50);
  int listed = 0;
  for (const auto& finding : diagnose(seen).findings) listed += finding.what.starts_with("no peer access for");
  CHECK(listed == 1);
  CHECK_THAT(text_of(seen), ContainsSubstring("GPU0>GPU2"));
}

TEST_CASE("the doctor's JSON has all that the text has", "[cli][doctor]") {
  Examination seen = healthy("pcie_2x.json", 26);
  first(seen, Method::store).verdict = Verdict::wrong_data;
  first(seen, Method::store).first_bad_offset = 4096;
  first(seen, Method::store).reason = "bytes \xff that are no text";
  const auto json = nlohmann::json::parse(to_json(seen, diagnose(seen)));
  CHECK(json["exit_status"] == 3);
  CHECK(json["links"].size() == 8);
  CHECK(json["links"][0]["first_bad_offset"] == 4096);
  CHECK(json["all_reduce"]["checks"].size() == 2);
  CHECK(json["findings"].size() == diagnose(seen).findings.size());
  CHECK(machine_from_json(json["machine"].dump()) == seen.machine);
}

TEST_CASE("one child proves the links and does the all-reduces, and is left to itself", "[cli][doctor]") {
  const Examination seen = examined({});
  CHECK(diagnose(seen).exit == Exit::healthy);
  CHECK(seen.verification.links.size() == 48);
  CHECK(all_right(seen.all_reduce));
  CHECK(all_right(seen.control));
  CHECK(abandoned_children() == 1);
  std::vector<std::string> stages;
  for (const StageTime& time : seen.times) stages.push_back(time.stage);
  CHECK(stages == std::vector<std::string>{"look at the machine", "wait for CUDA", "checks of links", "rates", "latencies", "pairs of flows", "all-reduces",
                                           "all-reduces through host memory", "all"});
  CHECK(nlohmann::json::parse(to_json(seen, diagnose(seen)))["ms"].size() == stages.size());
}

TEST_CASE("where a link fails, all-reduces are checked in another child", "[cli][doctor]") {
  const auto [faults, injection, exit, named] = GENERATE(table<std::vector<std::string>, const char*, Exit, const char*>(
      {{{"late:flag:1-2"}, nullptr, Exit::hang, "GPU1>GPU2 flag: hang"},
       {{"wrong:load:3-0"}, nullptr, Exit::wrong_data, "GPU3>GPU0 load: wrong_data"},
       {{"hang:store:2-3"}, nullptr, Exit::hang, "GPU2>GPU3 store: hang"},
       {{"die:copy_engine:0-1"}, nullptr, Exit::inconclusive, "GPU0>GPU1 copy_engine: inconclusive"},
       {{}, "hang:2-0", Exit::hang, "GPU2>GPU0 flag: hang"}}));
  CAPTURE(named);
  const Examination seen = examined(faults, injection);
  CHECK(diagnose(seen).exit == exit);
  CHECK_THAT(text_of(seen), ContainsSubstring(named));
  CHECK(all_right(seen.all_reduce));
  CHECK(all_right(seen.control));
  CHECK(abandoned_children() == 1);
}

TEST_CASE("a child that hangs, dies or gives up over an all-reduce is a verdict that names it", "[cli][doctor]") {
  const auto [fault, exit, named] = GENERATE(table<std::string, Exit, const char*>(
      {{"hang:all_reduce:65536", Exit::hang, "an all-reduce of 64 KiB fails: the process that tried it hung and was killed after 3000 ms"},
       {"die:all_reduce:65536", Exit::inconclusive, "an all-reduce of 64 KiB fails: the process that tried it died of signal 9"},
       {"throw:all_reduce:65536", Exit::inconclusive, "an all-reduce of 64 KiB fails: no memory"}}));
  CAPTURE(fault);
  const Examination seen = examined({fault});
  CHECK(diagnose(seen).exit == exit);
  CHECK_THAT(text_of(seen), ContainsSubstring(named) && ContainsSubstring("16 MiB fails: not tried: "));
  REQUIRE(seen.all_reduce.size() == 3);
  CHECK(seen.all_reduce[0].right);
  CHECK(all_right(seen.control));
  CHECK(abandoned_children() == 1);
}

TEST_CASE("a control that hangs is a hang, one that dies tells nothing", "[cli][doctor]") {
  const Examination hung = examined({"hang:host:4"});
  CHECK(diagnose(hung).exit == Exit::hang);
  CHECK_THAT(text_of(hung), ContainsSubstring("through host memory fails") && ContainsSubstring("hung and was killed"));
  CHECK(all_right(hung.all_reduce));
  CHECK(diagnose(examined({"die:host:16777216"})).exit == Exit::inconclusive);
  CHECK(abandoned_children() == 0);
}

TEST_CASE("a child in which CUDA does not come up is a hang if it never says so, else inconclusive", "[cli][doctor]") {
  const Examination hung = examined({"comatose"});
  CHECK(diagnose(hung).exit == Exit::hang);
  CHECK_THAT(text_of(hung), ContainsSubstring("CUDA did not come up within 3000 ms"));
  const Examination failed = examined({"stillborn"});
  CHECK(diagnose(failed).exit == Exit::inconclusive);
  CHECK_THAT(text_of(failed), ContainsSubstring("no GPU today"));
  CHECK(abandoned_children() == 0);
}

TEST_CASE("what a child writes to standard error comes from its parent, and nothing after that", "[cli][doctor]") {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const int before = ::dup(STDERR_FILENO);
  ::dup2(ends[1], STDERR_FILENO);
  ::close(ends[1]);
  // The child stays as long as this pipe is open here.
  int alive[2];
  REQUIRE(::pipe2(alive, O_CLOEXEC) == 0);
  ::fcntl(alive[0], F_SETFD, 0);
  (void)examined({"complain", "stay:" + std::to_string(alive[0])});
  ::dup2(before, STDERR_FILENO);
  ::close(before);
  // To the end, which comes although the child still lives.
  std::string said;
  char buffer[256];
  for (ssize_t count = 0; (count = ::read(ends[0], buffer, sizeof buffer)) > 0;) said.append(buffer, static_cast<std::size_t>(count));
  ::close(ends[0]);
  CHECK(said == "the prober complains\nthe prober complains\n");
  int status = 0;
  CHECK(::waitpid(-1, &status, WNOHANG) == 0);
  ::close(alive[0]);
  ::close(alive[1]);
  CHECK(abandoned_children() == 1);
}

TEST_CASE("without a GPU the doctor says so and checks CPU ranks", "[cli][doctor]") {
  if (!look_around().why_no_gpu.empty()) {
    const Answer answer = ask({"doctor"});
    CHECK(answer.exit == Exit::healthy);
    CHECK_THAT(answer.out, ContainsSubstring("no GPU: ") && ContainsSubstring("4 CPU ranks") && ContainsSubstring("16 MiB") && ContainsSubstring("right"));
    CHECK(nlohmann::json::parse(ask({"doctor", "--json"}).out)["verdict"] == "healthy");
  }
  CHECK(ask({"doctor", "--inject", "bend:0-1"}).exit == Exit::unusable);
  CHECK(ask({"doctor", "--machine", machine_path("pcie_2x.json")}).exit == Exit::unusable);
  CHECK_THAT(ask({"doctor", "--help"}).out, !ContainsSubstring("--inject"));
}

TEST_CASE("the doctor finds this machine healthy within five seconds", "[cli][doctor][gpu]") {
  char folder[] = "/tmp/collectives-doctor-XXXXXX";
  const Variable cache("XDG_CACHE_HOME", ::mkdtemp(folder));
  const Answer answer = ask({"doctor", "--json"});
  std::filesystem::remove_all(folder);
  INFO(answer.out);
  CHECK(answer.exit == Exit::healthy);
  const auto json = nlohmann::json::parse(answer.out);
  WARN("ms: " << json["ms"].dump());
  CHECK(json["ms"]["all"] < 5000);
  CHECK(abandoned_children() == 1);
}

TEST_CASE("the doctor names the real link into which a fault was put", "[cli][doctor][gpu]") {
  if (detect_machine().gpus().size() < 2) return;
  const auto [kind, exit] = GENERATE(table<const char*, Exit>({{"drop", Exit::hang}, {"delay", Exit::wrong_data}, {"corrupt", Exit::wrong_data}, {"hang", Exit::hang}}));
  CAPTURE(kind);
  const Answer answer = ask({"doctor", "--inject", std::string(kind) + ":1-0"});
  CHECK(answer.exit == exit);
  CHECK_THAT(answer.out, ContainsSubstring("- GPU1>GPU0 flag: ") && !ContainsSubstring("- GPU0>GPU1 flag: "));
  CHECK_THAT(answer.out, !ContainsSubstring("all-reduce of 4 B fails"));
  CHECK(abandoned_children() == 1);
}
