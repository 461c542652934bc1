#include "nccl_shim/counts.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "base/atomics.hpp"
#include "base/env.hpp"
#include "nccl_shim/rank.hpp"

namespace collectives {
namespace {

void print_counts() {
  auto* counts = DropInCounts::if_wanted();
  const std::string text = counts != nullptr ? counts->text() : "";
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text.data(), text.size());
}

CallSummary summary_wanted() {
  try {
    return read_environment().summary;
  } catch (...) {
    return CallSummary::none;  // the first communicator says what is wrong
  }
}

DropInCounts* make_counts() {
  const CallSummary wanted = summary_wanted();
  // Never destroyed: the end of the process still reads it.
  return wanted != CallSummary::none && std::atexit(print_counts) == 0 ? new DropInCounts(wanted == CallSummary::ranks) : nullptr;
}

int size_class(std::size_t bytes) {
  int exponent = 2;
  while (exponent < 62 && bytes > std::size_t{1} << exponent) exponent += 2;
  return exponent;
}

/// 4K for 12.
std::string size_text(int exponent) {
  constexpr const char* units[] = {"", "K", "M", "G", "T", "P", "E"};
  return fmt::format("{}{}", 1u << exponent % 10, units[exponent / 10]);
}

/// Begins every line: the process, and the rank where they are told apart.
std::string line_start(const DropInCounts::Kind& kind) {
  const std::string start = fmt::format("collectives: {}: ", ::getpid());
  return kind.ranks == 0 ? start : start + fmt::format("rank {} of {}: ", kind.rank, kind.ranks);
}

}  // namespace

DropInCounts* DropInCounts::if_wanted() {
  static DropInCounts* all = make_counts();
  return all;
}

DropInCounts::Kind DropInCounts::kind_of(const DropInRank& rank, Collective collective, std::size_t bytes, const char* algorithm) const {
  Kind kind{.collective = collective, .size_exponent = size_class(bytes), .algorithm = algorithm};
  if (by_rank_) kind.ranks = rank.size(), kind.rank = rank.rank();
  return kind;
}

void DropInCounts::Times::add(double us) { add(Times{1, us, us}); }

void DropInCounts::Times::add(const Times& others) {
  count += others.count;
  sum += others.sum;
  most = std::max(most, others.most);
}

void DropInCounts::Count::harvest() {
  for (auto& [device_number, timer] : timers)
    if (timer)
      if (const auto us = timer->take_us()) device.add(*us);
}

std::unique_ptr<StreamTimer> DropInCounts::borrow_timer(const Kind& kind, int device) {
  const std::lock_guard lock(mutex_);
  Count& count = counts_[kind];
  count.harvest();
  if (count.calls % 16 != 0) return nullptr;
  const auto [place, added] = count.timers.try_emplace(device);
  if (added) place->second = make_stream_timer(device);
  return std::move(place->second);
}

void DropInCounts::give_back(const Kind& kind, int device, std::unique_ptr<StreamTimer> timer) {
  const std::lock_guard lock(mutex_);
  counts_[kind].timers[device] = std::move(timer);
}

void DropInCounts::add(const Kind& kind, std::size_t bytes, double host_us) {
  const std::lock_guard lock(mutex_);
  Count& count = counts_[kind];
  ++count.calls;
  count.bytes += bytes;
  count.host.add(host_us);
}

void DropInCounts::add_fallback(const std::string& reason) {
  const std::lock_guard lock(mutex_);
  ++fallbacks_[reason];
}

std::string DropInCounts::Count::line(const Kind& kind) const {
  std::string text = fmt::format("{}  up to {:<5} {:>8} calls, {}, {:.1f} us in a call (most {:.1f})", line_start(kind), size_text(kind.size_exponent), calls, kind.algorithm,
                                 host.mean(), host.most);
  if (device.count > 0) text += fmt::format(", {:.1f} us on the GPU (most {:.1f}, {} timed)", device.mean(), device.most, device.count);
  return text + "\n";
}

std::string DropInCounts::text() {
  const std::lock_guard lock(mutex_);
  std::map<Kind, std::pair<Count, std::string>> each;  // of all sizes and algorithms
  for (auto& [kind, count] : counts_) {
    if (count.calls == 0) continue;
    count.harvest();
    auto& [total, lines] = each[{.ranks = kind.ranks, .rank = kind.rank, .collective = kind.collective, .size_exponent = 0, .algorithm = {}}];
    total.calls += count.calls;
    total.bytes += count.bytes;
    total.host.add(count.host);
    lines += count.line(kind);
  }
  std::string text;
  for (const auto& [kind, all] : each)
    text += fmt::format("{}{:<14} {:>8} calls {:>14} bytes {:>12.3f} ms in calls\n{}", line_start(kind), name_of(kind.collective), all.first.calls, all.first.bytes,
                        all.first.host.sum / 1000, all.second);
  for (const auto& [reason, count] : fallbacks_) text += fmt::format("collectives: {}: {} communicators were left to NCCL: {}\n", ::getpid(), count, reason);
  return text;
}

CountedCall::CountedCall(const DropInRank& rank, Collective collective, std::size_t bytes, const char* algorithm, Stream stream)
    : counts_(DropInCounts::if_wanted()), bytes_(bytes), device_(rank.device()), stream_(stream) {
  if (counts_ == nullptr) return;
  kind_ = counts_->kind_of(rank, collective, bytes, algorithm);
  timer_ = counts_->borrow_timer(kind_, device_);
  timing_ = timer_ && timer_->begin(stream_);
  began_ns_ = now_ns();
}

CountedCall::~CountedCall() {
  if (timer_) counts_->give_back(kind_, device_, std::move(timer_));
}

void CountedCall::finish() {
  if (counts_ == nullptr) return;
  const double host_us = static_cast<double>(now_ns() - began_ns_) / 1000;
  if (timing_) timer_->end(stream_);
  counts_->add(kind_, bytes_, host_us);
}

}  // namespace collectives
