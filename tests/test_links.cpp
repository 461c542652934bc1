// Verification of links without a GPU: what a prober says is made up, who watches it is real.
#include <sys/stat.h>
#include <sys/wait.h>

#include <collectives/plan.hpp>
#include <collectives/verify.hpp>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>

#include "fake_prober.hpp"
#include "kernels/probe.hpp"
#include "machines.hpp"
#include "test.hpp"
#include "topology/fabric.hpp"
#include "topology/verify_cache.hpp"
#include "topology/verify_child.hpp"
#include "topology/verify_flows.hpp"
#include "topology/verify_steps.hpp"

using namespace collectives;
namespace fs = std::filesystem;

namespace {

VerifyOptions options_with(const std::vector<std::string>& faults) {
  VerifyOptions options;
  options.prober = fake_prober(faults);
  options.step_timeout = std::chrono::milliseconds(400);
  return options;
}

int count(const Verification& verification, Verdict verdict) {
  return static_cast<int>(std::count_if(verification.links.begin(), verification.links.end(), [=](const LinkVerdict& link) { return link.verdict == verdict; }));
}

struct Folder {
  Folder() {
    char name[] = "/tmp/collectives-links-XXXXXX";
    path = ::mkdtemp(name);
  }
  ~Folder() { fs::remove_all(path); }
  fs::path path;
};

std::string contents(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

Verification some_verdicts() {
  return {.links = {{{0, 1}, Method::store, Verdict::ok, -1, 370.5, 0, ""},
                    {{0, 1}, Method::flag, Verdict::ok, -1, 0, 1.25, ""},
                    {{1, 0}, Method::load, Verdict::wrong_data, 4096, 0, 0, "not \"what\" was sent"}},
          .flows = {}};
}

}  // namespace

TEST_CASE("rounds of pairs name every pair once and no GPU twice at a time", "[topology][links]") {
  const int gpus = GENERATE(1, 2, 3, 4, 7, 8, 16);
  CAPTURE(gpus);
  std::vector<DevicePair> pairs;
  for (int from = 0; from < gpus; ++from)
    for (int to = 0; to < gpus; ++to)
      if (from != to) pairs.push_back({from, to});
  std::vector<DevicePair> seen;
  const auto rounds = rounds_of(pairs);
  for (const auto& round : rounds) {
    std::set<int> busy;
    for (const DevicePair pair : round) {
      CHECK(busy.insert(pair.from).second);
      CHECK(busy.insert(pair.to).second);
      seen.push_back(pair);
    }
  }
  std::sort(seen.begin(), seen.end());
  CHECK(seen == pairs);
  if (gpus == 4) CHECK(rounds.size() == 6);
  if (gpus == 8) CHECK(rounds.size() <= 2 * 13);
}

TEST_CASE("steps, reports and faults survive their lines, and nothing else is taken for one", "[topology][links]") {
  const ProbeStep step{7, Probe::rate, Method::copy_engine, {{0, 3}, {2, 1}}};
  CHECK(step_from_line(to_line(step)) == step);
  const Report report{7, {0, 3}, Verdict::wrong_data, 143552, 12.5, "packs were wrong, the first at byte 5"};
  CHECK(report_from_line(to_line(report)) == report);
  CHECK(report_from_line(to_line(Report{1, {1, 0}, Verdict::ok, -1, 0, ""})) == Report{1, {1, 0}, Verdict::ok, -1, 0, ""});
  const AllReduceStep all_reduce{{0, 3, 1}, true, 5000, {4, 1u << 30}};
  CHECK(all_reduce_step_from_line(to_line(all_reduce)) == all_reduce);
  AllReduceCheck check{.bytes = 65536, .right = false, .wrong_elements = 17, .us = 12.25, .plan = "two_shot", .error = "", .timed_out = false};
  CHECK(check_from_line(to_line(check)) == check);
  check.plan = "", check.error = "rank 1 did not come", check.timed_out = true;
  CHECK(check_from_line(to_line(check)) == check);
  const Injection injection{Injection::Kind::corrupt, {2, 0}};
  CHECK(injection_from_line(to_line(injection)).pair == injection.pair);
  CHECK(injection_from_line(to_line(injection)).kind == injection.kind);
  const std::string line = GENERATE(as<std::string>{}, "", "step", "step 1 9 0 1 0 1", "step 1 0 7 1 0 1", "step 1 0 0 2 0 1", "report 1 0 -1 0 0 0", "report 1 0 1 5 0 0", "all_reduce 2 5 0 0", "all_reduce 0 5 1 0 2 4",
                                    "checked 4 1 0", "checked 4 1 x 0 0 - ");
  CAPTURE(line);
  CHECK_THROWS_WITH(step_from_line(line), ContainsSubstring("link prober"));
  CHECK_THROWS_WITH(report_from_line(line), ContainsSubstring("link prober"));
  CHECK_THROWS_WITH(all_reduce_step_from_line(line), ContainsSubstring("link prober"));
  CHECK_THROWS_WITH(check_from_line(line), ContainsSubstring("link prober"));
}

TEST_CASE("a fault to inject is parsed or refused", "[topology][links]") {
  CHECK(parse_injection("delay:3-11").pair == DevicePair{3, 11});
  CHECK(parse_injection("hang:1-0").kind == Injection::Kind::hang);
  const std::string text = GENERATE(as<std::string>{}, "", "drop", "drop:0", "drop:0-1 ", "drop:0-1,2-3", "bend:0-1", "drop:-1-0");
  CAPTURE(text);
  CHECK_THROWS_WITH(parse_injection(text), ContainsSubstring("corrupt:0-1"));
}

TEST_CASE("the probes' regions lie apart within the buffer, with room for their margins", "[topology][links]") {
  const std::size_t bytes = GENERATE(std::size_t{4} << 20, std::size_t{64} << 20);
  const auto regions = kernels::probe_regions_of(bytes);
  std::uint32_t end = 0;
  for (const auto& region : regions.region) {
    CHECK(region.begin >= end + kernels::probe_margin);
    end = region.begin + region.packs + kernels::probe_margin;
  }
  CHECK(regions.region[3].begin + regions.region[3].packs == bytes / 16);
}

TEST_CASE("a healthy machine is verified by every method, measured and undisturbed", "[topology][links]") {
  const int gpus = GENERATE(2, 3, 4);
  CAPTURE(gpus);
  const Machine machine = machine_of(gpus);
  const Verification verification = verify_machine(machine, options_with({}));
  CHECK(count(verification, Verdict::ok) == gpus * (gpus - 1) * method_count);
  CHECK(verification.links.size() == static_cast<std::size_t>(gpus * (gpus - 1) * method_count));
  for (const LinkVerdict& link : verification.links) CHECK((link.method == Method::flag ? link.latency_us == 2 : link.gb_per_s == 20));
  CHECK(verification.flows.empty() == (gpus < 4));
  for (const FlowVerdict& flow : verification.flows) CHECK((flow.gb_per_s == 40 && !flow.collapsed));
}

TEST_CASE("what a prober finds is the verdict of that pair and method alone", "[topology][links]") {
  const Verification verification = verify_machine(machine_of(4), options_with({"wrong:load:0-2", "late:flag:3-1", "refused:copy_engine:1-2"}));
  CHECK(verification.find({0, 2}, Method::load)->verdict == Verdict::wrong_data);
  CHECK(verification.find({0, 2}, Method::load)->first_bad_offset == 4096);
  CHECK(verification.find({1, 2}, Method::copy_engine)->verdict == Verdict::refused);
  CHECK(count(verification, Verdict::wrong_data) == 1);
  CHECK(count(verification, Verdict::refused) == 1);
  // A pair that hung is not tried by the other methods.
  for (const Method method : {Method::store, Method::load, Method::copy_engine, Method::flag}) CHECK(verification.find({3, 1}, method)->verdict == Verdict::hang);
  CHECK(count(verification, Verdict::hang) == 4);
}

TEST_CASE("a prober that hangs is killed, and of the pairs it had under way the right one is named", "[topology][links]") {
  const Verification verification = verify_machine(machine_of(4), options_with({"hang:flag:2-3"}));
  CHECK(verification.find({2, 3}, Method::flag)->verdict == Verdict::hang);
  CHECK_THAT(verification.find({2, 3}, Method::flag)->reason, ContainsSubstring("killed after 400 ms"));
  CHECK(verification.find({0, 1}, Method::flag)->verdict == Verdict::ok);
  CHECK(count(verification, Verdict::ok) == 44);
  CHECK(count(verification, Verdict::hang) == 4);
}

TEST_CASE("an injected hang stops the real loop of a prober, too", "[topology][links]") {
  VerifyOptions options = options_with({});
  options.injection = parse_injection("hang:1-0");
  const Verification verification = verify_machine(machine_of(2), options);
  CHECK(verification.find({1, 0}, Method::flag)->verdict == Verdict::hang);
  CHECK(verification.find({0, 1}, Method::flag)->verdict == Verdict::ok);
}

TEST_CASE("a prober that dies or throws says nothing of the link, and another goes on", "[topology][links]") {
  const Verification verification = verify_machine(machine_of(4), options_with({"die:store:0-1", "throw:load:2-3"}));
  CHECK(verification.find({0, 1}, Method::store)->verdict == Verdict::inconclusive);
  CHECK_THAT(verification.find({0, 1}, Method::store)->reason, ContainsSubstring("signal 9"));
  CHECK(verification.find({2, 3}, Method::store)->verdict == Verdict::ok);
  CHECK(verification.find({2, 3}, Method::load)->verdict == Verdict::inconclusive);
  CHECK_THAT(verification.find({2, 3}, Method::load)->reason, ContainsSubstring("the GPU is in error"));
  CHECK(count(verification, Verdict::hang) == 0);
}

TEST_CASE("where no prober comes up, all is inconclusive and says why", "[topology][links]") {
  VerifyOptions options = options_with({"stillborn"});
  const Verification stillborn = verify_machine(machine_of(3), options);
  CHECK(count(stillborn, Verdict::inconclusive) == 24);
  CHECK_THAT(stillborn.links[0].reason, ContainsSubstring("no GPU today"));
  options.prober = {"/bin/cat"};
  const Verification foreign = verify_machine(machine_of(2), options);
  CHECK(count(foreign, Verdict::inconclusive) == 8);
  options.prober = {"/bin/true"};
  CHECK_THAT(verify_machine(machine_of(2), options).links[0].reason, ContainsSubstring("status 0"));
  options.prober = {"/nonexistent/prober"};
  CHECK_THROWS_AS(verify_machine(machine_of(2), options), Error);
}

TEST_CASE("no child is left behind", "[topology][links]") {
  (void)verify_machine(machine_of(3), options_with({"hang:flag:0-1", "die:store:1-2"}));
  CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);
  CHECK(errno == ECHILD);
}

TEST_CASE("verdicts are written into the peers: stores and loads, stores alone, loads alone, or host memory", "[topology][links]") {
  Machine machine = machine_of(5);
  apply(machine, verify_machine(machine, options_with({"wrong:store:0-1", "wrong:load:1-0", "late:flag:1-2", "wrong:load:2-0", "refused:copy_engine:2-1", "die:store:0-2"})));
  // Stores and loads fail; the way back is read, for its marks have no other way.
  CHECK_FALSE(machine.peer(0, 1)->access);
  CHECK_FALSE(machine.peer(0, 1)->pulled);
  CHECK_THAT(machine.peer(0, 1)->reason, ContainsSubstring("stores bring wrong data") && !ContainsSubstring("reads instead"));
  CHECK_FALSE(machine.peer(0, 1)->remedy.empty());
  CHECK(machine.peer(1, 0)->pulled);
  // Stores fail and loads work, both ways.
  CHECK_FALSE(machine.peer(1, 2)->access);
  CHECK(machine.peer(1, 2)->pulled);
  CHECK(machine.peer(1, 2)->gb_per_s == 20);
  CHECK_THAT(machine.peer(1, 2)->reason, ContainsSubstring("never arrive") && ContainsSubstring("the receiver reads instead"));
  // What hung is not loaded from, either, so the way back has nothing left.
  CHECK_FALSE(machine.peer(2, 1)->pulled);
  CHECK(machine.peer(2, 0)->access);
  CHECK_FALSE(machine.peer(2, 0)->pulled);
  CHECK(machine.peer(2, 0)->evidence == Evidence::verified);
  CHECK_THAT(machine.peer(2, 0)->reason, ContainsSubstring("loads bring wrong data") && ContainsSubstring("only stores"));
  // Inconclusive is no proof of either.
  CHECK(machine.peer(0, 2)->access);
  CHECK(machine.peer(0, 2)->evidence == Evidence::claimed);
  const Peer& good = *machine.peer(3, 4);
  CHECK((good.access && !good.pulled && good.evidence == Evidence::verified && good.gb_per_s == 20 && good.reason.empty()));
  validate(machine);
  CHECK(machine_from_json(to_json(machine)) == machine);

  const Fabric fabric = fabric_of(machine, std::vector{0, 1, 2, 3});
  CHECK(fabric.link(0, 1).handover() == Handover::host);
  CHECK(fabric.link(1, 0).handover() == Handover::pull);
  CHECK(fabric.link(1, 2).handover() == Handover::pull);
  CHECK(fabric.link(1, 2).mb_per_s == 20'000);
  CHECK(fabric.link(1, 2).latency_ns > fabric.link(1, 3).latency_ns);
  CHECK(fabric.link(2, 0).handover() == Handover::push);
  CHECK(fabric.link(1, 2).route.size() == fabric.link(1, 3).route.size());
  CHECK(fabric.link(2, 1).handover() == Handover::host);
  CHECK(fabric_from_bytes(to_bytes(fabric)) == fabric);
}

TEST_CASE("a pair reads where stores bring a quarter of what loads do or less, either way", "[topology][links]") {
  Machine machine = machine_of(3, "PHB");
  apply(machine, verify_machine(machine, options_with({"crawl:store:0-1", "crawl:store:1-2", "wrong:load:2-1", "crawl:store:0-2", "wrong:load:0-2"})));
  CHECK(machine.peer(0, 1)->access);
  CHECK(machine.peer(0, 1)->pulled);
  CHECK(machine.peer(0, 1)->gb_per_s == 20);
  CHECK(machine.peer(1, 0)->pulled);
  // Slow stores are all there is, or all that leaves the way back its own.
  CHECK_FALSE(machine.peer(1, 2)->pulled);
  CHECK(machine.peer(1, 2)->gb_per_s == 1);
  CHECK_FALSE(machine.peer(0, 2)->pulled);
  CHECK_FALSE(machine.peer(2, 0)->pulled);
  const PlanReport report = plan_all_reduce(machine, {0, 1}, 1 << 20, DataType::bfloat16, ReduceOp::sum);
  CHECK_THAT(report.explanation, ContainsSubstring("some read what others have for them"));
  for (const Move& move : report.moves) CHECK(move.handover == Handover::pull);
}

TEST_CASE("two flows that take each other's rate away are a collapse", "[topology][links]") {
  const Verification verification = verify_machine(machine_of(4), options_with({"slow:store:0-1", "slow:store:2-3"}));
  int collapsed = 0;
  for (const FlowVerdict& flow : verification.flows) {
    collapsed += flow.collapsed;
    CHECK(flow.collapsed == (flow.first == DevicePair{0, 1} && flow.second == DevicePair{2, 3} && flow.method == Method::store));
  }
  CHECK(collapsed == 1);
}

TEST_CASE("flows are predicted by what they share", "[topology][links]") {
  const Machine machine = test_machine("two_sockets_8x.json");
  Verification verification;
  for (const int from : machine.gpus())
    for (const int to : machine.gpus())
      if (from != to) verification.links.push_back({{machine.nodes[from].device, machine.nodes[to].device}, Method::store, Verdict::ok, -1, 25, 0, ""});
  const auto flows = flows_to_try(machine, verification);
  REQUIRE_FALSE(flows.empty());
  CHECK(flows.size() <= most_flows);
  for (const FlowVerdict& flow : flows) {
    CHECK(flow.predicted >= 25);
    CHECK(flow.predicted <= 50);
    const std::set<int> gpus = {flow.first.from, flow.first.to, flow.second.from, flow.second.to};
    CHECK(gpus.size() == 4);
  }
  verification.links.clear();
  CHECK(flows_to_try(machine, verification).empty());
}

TEST_CASE("verdicts are kept for one machine, its owner and a month", "[topology][links]") {
  const Folder folder;
  const fs::path file = folder.path / "deep" / "collectives" / "links.json";
  const Machine machine = machine_of(2);
  const std::string identity = identity_of(machine, folder.path);
  write_verdicts(file, machine, identity, 1000, some_verdicts());
  CHECK(fs::status(file).permissions() == (fs::perms::owner_read | fs::perms::owner_write));
  CHECK(fs::status(file.parent_path()).permissions() == fs::perms::owner_all);
  CHECK(std::distance(fs::directory_iterator(file.parent_path()), {}) == 1);
  CHECK(read_verdicts(file, machine, identity, 1000) == some_verdicts());
  CHECK(read_verdicts(file, machine, identity, 1000 + cache_lifetime_s) == some_verdicts());

  CHECK_FALSE(read_verdicts(file, machine, identity, 1001 + cache_lifetime_s));
  CHECK_FALSE(read_verdicts(file, machine, identity, 999));
  CHECK_FALSE(read_verdicts(file, machine, identity + "x", 1000));
  CHECK_FALSE(read_verdicts(folder.path / "none", machine, identity, 1000));
  fs::permissions(file, fs::perms::group_write, fs::perm_options::add);
  CHECK_FALSE(read_verdicts(file, machine, identity, 1000));
}

TEST_CASE("kept verdicts follow a GPU whatever its ordinal", "[topology][links]") {
  const Folder folder;
  const fs::path file = folder.path / "links.json";
  Machine machine = machine_of(2);
  write_verdicts(file, machine, "id", 0, some_verdicts());
  std::swap(machine.nodes[0].device, machine.nodes[1].device);
  const auto turned = read_verdicts(file, machine, "id", 0);
  REQUIRE(turned);
  CHECK(turned->find({1, 0}, Method::store)->gb_per_s == 370.5);
  CHECK(turned->find({0, 1}, Method::load)->verdict == Verdict::wrong_data);
  machine.nodes[1].device = -1;
  CHECK(read_verdicts(file, machine, "id", 0)->links.empty());
}

TEST_CASE("a machine's identity has its driver, firmware and PCI tree, not its ordinals", "[topology][links]") {
  const Folder folder;
  fs::create_directories(folder.path / "sys/class/dmi/id");
  std::ofstream(folder.path / "sys/class/dmi/id/bios_version") << "1.2\n";
  const Machine machine = machine_of(2);
  const std::string identity = identity_of(machine, folder.path);
  Machine other = machine;
  std::swap(other.nodes[0].device, other.nodes[1].device);
  CHECK(identity_of(other, folder.path) == identity);
  other = machine, other.driver = "581.0";
  CHECK(identity_of(other, folder.path) != identity);
  other = machine, other.nodes[1].uuid = "GPU-7";
  CHECK(identity_of(other, folder.path) != identity);
  other = machine, other.nodes[1].pci = "0000:02:00.0";
  CHECK(identity_of(other, folder.path) != identity);
  std::ofstream(folder.path / "sys/class/dmi/id/bios_version") << "1.3\n";
  CHECK(identity_of(machine, folder.path) != identity);
}

TEST_CASE("a file of verdicts that is broken in any way is no file", "[topology][links]") {
  const Folder folder;
  const fs::path file = folder.path / "links.json";
  const Machine machine = machine_of(2);
  write_verdicts(file, machine, "id", 0, some_verdicts());
  const std::string good = contents(file);
  const auto read_text = [&](const std::string& text) {
    std::ofstream(file, std::ios::binary | std::ios::trunc) << text;
    return read_verdicts(file, machine, "id", 0);
  };
  REQUIRE(read_text(good));
  for (std::size_t length = 0; length < good.size(); length += 41) REQUIRE_FALSE(read_text(good.substr(0, length)));
  CHECK_FALSE(read_text("[]"));
  CHECK_FALSE(read_text(R"({"format":1,"time":0,"identity":"id","links":[{"from":"a"}]})"));
  CHECK_FALSE(read_text(R"({"format":1,"time":0,"identity":"id","links":7})"));
  CHECK_FALSE(read_text(R"({"format":2,"time":0,"identity":"id","links":[]})"));
  std::mt19937 random(11);
  for (int i = 0; i < 40; ++i) {
    std::string text = good;
    text[random() % text.size()] = static_cast<char>(random());
    const auto verdicts = read_text(text);
    if (verdicts) CHECK(verdicts->links.size() <= 3);
  }
}
