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

constexpr const char* remedy =
    "switch off ACS and the IOMMU, or take the machine's host to task for its virtual PCIe; until then the ranks meet in host memory";

/// From loads and stores, to stores alone, to host memory.
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

}  // namespace

void apply(Machine& machine, const Verification& verification) {
  for (Peer& peer : machine.peers) {
    const int from = machine.nodes[static_cast<std::size_t>(peer.from)].device, to = machine.nodes[static_cast<std::size_t>(peer.to)].device;
    if (peer.access && from >= 0 && to >= 0) apply_pair(peer, verification, {from, to});
  }
}

}  // namespace collectives
