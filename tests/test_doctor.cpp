// The doctor's judgement, on what was made up for it, and the whole command where there is no GPU.
#include <nlohmann/json.hpp>

#include "cli.hpp"
#include "cli/diagnosis.hpp"
#include "test.hpp"

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
