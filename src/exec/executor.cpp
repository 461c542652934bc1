#include "exec/executor.hpp"

#include <fmt/format.h>

#include <bit>

namespace collectives {
namespace {

using kernels::FaultKind;
using kernels::FaultRecord;

std::string list_ranks(std::uint32_t ranks) {
  std::string list;
  for (int rank = 0; rank < max_ranks; ++rank)
    if (ranks >> rank & 1u) list += fmt::format("{}{}", list.empty() ? "" : ", ", rank);
  return list;
}

Error describe_timeout(std::uint32_t missing, const std::string& where, std::uint64_t timeout_ns) {
  const auto after = fmt::format("within the deadline of {} ms (COLLECTIVES_TIMEOUT_MS)", timeout_ns / 1'000'000);
  if (missing == 0) return {ErrorCode::timeout, fmt::format("{}: every rank came, but one stalled inside the call and did not finish {}", where, after)};
  return {ErrorCode::timeout, fmt::format("{}: rank{} {} did not come {}", where, std::popcount(missing) > 1 ? "s" : "", list_ranks(missing), after)};
}

Error describe_poison(const FaultRecord& record, const std::string& where) {
  const auto told = fmt::format("{}: rank {} reports ", where, observe_relaxed(&record.peer));
  const auto culprit = observe_relaxed(&record.culprit);
  switch (static_cast<FaultKind>(observe_relaxed(&record.origin))) {
    case FaultKind::timeout: return {ErrorCode::timeout, told + (culprit < max_ranks ? fmt::format("that rank {} did not come in time", culprit) : "a stalled call")};
    case FaultKind::left: return {ErrorCode::peer_lost, told + fmt::format("that rank {} has gone", culprit)};
    case FaultKind::mismatch: return {ErrorCode::mismatch, told + fmt::format("that rank {} made a different call", culprit)};
    default: return {ErrorCode::aborted, told + "that it aborted"};
  }
}

/// Does a rank that finds this tell of what somebody did, and not of somebody's absence?
bool is_by_intent(FaultKind origin) { return origin == FaultKind::mismatch || origin == FaultKind::aborted; }

}  // namespace

std::optional<Error> Executor::fault(bool look) {
  if (look) abandon_if_lost();
  const std::lock_guard lock(fault_mutex_);
  if (!first_fault_) first_fault_ = find_fault();
  return first_fault_;
}

std::optional<Error> Executor::find_fault() {
  FaultRecord& seen = record();
  const auto kind = static_cast<FaultKind>(__atomic_load_n(&seen.kind, __ATOMIC_ACQUIRE));
  const int lost = lost_.load();
  if (kind == FaultKind::none && lost < 0 && observe_relaxed(&seen.abort) == 0) return std::nullopt;
  const auto where = fmt::format("rank {} of {}, call {}", context_.rank, context_.ranks, observe_relaxed(&seen.epoch) - context_.first_epoch);
  // A peer that has gone explains whatever its absence did to the call that was running, but not calls that differ.
  const bool told_otherwise = kind == FaultKind::poisoned && is_by_intent(static_cast<FaultKind>(observe_relaxed(&seen.origin)));
  if (lost >= 0 && kind != FaultKind::mismatch && !told_otherwise) return Error(ErrorCode::peer_lost, fmt::format("rank {} of {}: rank {} has gone: its process ended", context_.rank, context_.ranks, lost));
  switch (kind) {
    case FaultKind::none: break;
    case FaultKind::timeout: return describe_timeout(observe_relaxed(&seen.missing), where, context_.timeout_ns);
    case FaultKind::mismatch:
      return Error(ErrorCode::mismatch, fmt::format("{}: rank {} made a different call: collective, count, type, operation and plan must be the same on every rank", where, observe_relaxed(&seen.peer)));
    case FaultKind::aborted: return Error(ErrorCode::aborted, fmt::format("{}: aborted here", where));
    case FaultKind::poisoned: return describe_poison(seen, where);
    case FaultKind::left:
      return Error(ErrorCode::peer_lost, fmt::format("{}: rank {} has gone: it left the communicator without making this call", where, observe_relaxed(&seen.peer)));
  }
  return Error(ErrorCode::aborted, fmt::format("rank {} of {}: aborted here", context_.rank, context_.ranks));
}

bool Executor::abandon_if_lost() {
  if (lost_.load() >= 0) return true;
  // In this order: a peer that left because another one had died is seen here together with that one.
  const std::uint32_t left = context_.left_peers();
  const auto gone = context_.lost_peer();
  if (!gone) {
    if (left != 0) signal_relaxed(&record().left, left);
    return false;
  }
  lost_.store(*gone);
  abort(false);
  return true;
}

void Executor::turn_calls_to(std::uint32_t out_of_reach, const std::array<std::byte*, max_ranks>& common) {
  const std::lock_guard lock(ears_mutex_);
  if (common != context_.common) former_common_ = context_.common;
  context_.common = common;
  context_.out_of_reach = out_of_reach;
}

bool Executor::turn_mail_to(int peer, bool sends, const std::array<std::byte*, max_ranks>& common) {
  const auto own = static_cast<std::size_t>(context_.rank);
  MailWays& ways = context_.mail_ways;
  ways.common = common;
  (sends ? ways.sends : ways.receives) |= 1u << peer;
  return sends && common[own] != context_.pools[own];
}

std::vector<Mark*> Executor::ears() const {
  const std::lock_guard lock(ears_mutex_);
  std::vector<Mark*> words;
  for (const auto& pools : {context_.common, former_common_})
    for (int rank = 0; rank < context_.ranks; ++rank)
      if (std::byte* pool = pools[static_cast<std::size_t>(rank)]; pool != nullptr && rank != context_.rank)
        words.push_back(&reinterpret_cast<kernels::Control*>(pool)->poison);
  return words;
}

}  // namespace collectives
