#include <fmt/format.h>
#include <collectives/verify.hpp>

namespace collectives {
namespace {

bool broken(const LinkVerdict* link) {
  return link && (link->verdict == Verdict::wrong_data || link->verdict == Verdict::hang || link->verdict == Verdict::refused);
}
bool right(const LinkVerdict* link) { return link && link->verdict == Verdict::ok; }

std::string in_words(const LinkVerdict& link) {
  constexpr const char* what[] = {"stores", "loads", "copies by the copy engine", "flags after data"};
  constexpr const char* verdict[] = {"work", "bring wrong data", "never arrive", "are refused", "could not be tried"};
  std::string words = fmt::format("{} {}", what[static_cast<int>(link.method)], verdict[static_cast<int>(link.verdict)]);
  return link.reason.empty() ? words : words + ": " + link.reason;
}

constexpr const char* remedy = "switch off ACS and the IOMMU, or take the machine's host to task for its virtual PCIe";

/// How much more than stores loads must bring to be better: what is pulled is told of through host memory.
constexpr double worth_pulling = 4;

/// From loads and stores, to stores alone, to neither.
void apply_pair(Peer& peer, const Verification& verification, DevicePair pair) {
  const LinkVerdict* store = verification.find(pair, Method::store);
  const LinkVerdict* flag = verification.find(pair, Method::flag);
  for (const LinkVerdict* link : {store, flag})
    if (broken(link)) {
      peer.access = peer.native_atomics = false;
      peer.gb_per_s = peer.latency_us = 0;
      peer.evidence = Evidence::verified;
      peer.reason = in_words(*link);
      peer.remedy = remedy;
      return;
    }
  if (!right(store) || !right(flag)) return;
  peer.evidence = Evidence::verified;
  if (store->gb_per_s > 0) peer.gb_per_s = store->gb_per_s;
  if (flag->latency_us > 0) peer.latency_us = flag->latency_us;
  for (const Method method : {Method::load, Method::copy_engine})
    if (const LinkVerdict* link = verification.find(pair, method); broken(link)) {
      peer.reason = in_words(*link) + "; only stores are used";
      peer.remedy.clear();
    }
}

/// Do stores fail, or bring far less than the receiver's loads?
bool wants_pull(const Verification& verification, DevicePair pair) {
  const LinkVerdict* store = verification.find(pair, Method::store);
  const LinkVerdict* load = verification.find({pair.to, pair.from}, Method::load);
  if (broken(store) || broken(verification.find(pair, Method::flag))) return true;
  const bool back = right(verification.find(pair, Method::load));  // else slow stores would cost the way back its own
  return back && right(store) && right(load) && store->gb_per_s > 0 && load->gb_per_s > worth_pulling * store->gb_per_s;
}

/// Both ways of a pair, since marks for one go the other way. Where loads fail, too, host memory is left.
void pull(Peer& peer, const Verification& verification, DevicePair pair) {
  const LinkVerdict* load = verification.find({pair.to, pair.from}, Method::load);
  if (!right(load)) return;
  peer.pulled = true;
  if (peer.reason.empty()) peer.reason = "stores are slow or fail, this way or back";
  peer.reason += "; the receiver reads instead";
  if (load->gb_per_s > 0) peer.gb_per_s = load->gb_per_s;
  peer.latency_us = 0;
}

}  // namespace

void apply(Machine& machine, const Verification& verification) {
  const auto pair_of = [&](const Peer& peer) {
    return DevicePair{machine.nodes[static_cast<std::size_t>(peer.from)].device, machine.nodes[static_cast<std::size_t>(peer.to)].device};
  };
  for (Peer& peer : machine.peers) {
    const DevicePair pair = pair_of(peer);
    if (!peer.access || pair.from < 0 || pair.to < 0) continue;
    apply_pair(peer, verification, pair);
    if (wants_pull(verification, pair) || wants_pull(verification, {pair.to, pair.from})) pull(peer, verification, pair);
  }
}

}  // namespace collectives
