#include "nccl_shim/counts.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>

#include "base/env.hpp"

namespace collectives {
namespace {

void print_counts() {
  auto* counts = DropInCounts::if_wanted();
  const std::string text = counts != nullptr ? counts->text() : "";
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text.data(), text.size());
}

bool summary_wanted() {
  try {
    return read_environment().summary;
  } catch (...) {
    return false;  // the first communicator says what is wrong
  }
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

}  // namespace

DropInCounts* DropInCounts::if_wanted() {
  // Never destroyed: the end of the process still reads it.
  static DropInCounts* all = summary_wanted() && std::atexit(print_counts) == 0 ? new DropInCounts : nullptr;
  return all;
}

void DropInCounts::add(Collective collective, std::size_t bytes, const char* algorithm) {
  const std::lock_guard lock(mutex_);
  Count& count = counts_[{collective, size_class(bytes), algorithm}];
  ++count.calls;
  count.bytes += bytes;
}

void DropInCounts::add_fallback(const std::string& reason) {
  const std::lock_guard lock(mutex_);
  ++fallbacks_[reason];
}

std::string DropInCounts::text() {
  const std::lock_guard lock(mutex_);
  std::map<Collective, std::pair<Count, std::string>> each;
  for (const auto& [key, count] : counts_) {
    const auto& [collective, exponent, algorithm] = key;
    auto& [total, lines] = each[collective];
    total.calls += count.calls;
    total.bytes += count.bytes;
    lines += fmt::format("collectives: {}:   up to {:<5} {:>8} calls, {}\n", ::getpid(), size_text(exponent), count.calls, algorithm);
  }
  std::string text;
  for (const auto& [collective, all] : each)
    text += fmt::format("collectives: {}: {:<14} {:>8} calls {:>14} bytes\n{}", ::getpid(), name_of(collective), all.first.calls, all.first.bytes, all.second);
  for (const auto& [reason, count] : fallbacks_) text += fmt::format("collectives: {}: {} communicators were left to NCCL: {}\n", ::getpid(), count, reason);
  return text;
}

}  // namespace collectives
