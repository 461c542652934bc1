#include "nccl_shim/counts.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>

#include "base/env.hpp"

namespace collectives {
namespace {

void print_counts() {
  const std::string text = DropInCounts::of_this_process().text();
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text.data(), text.size());
}

bool summary_wanted() {
  try {
    return read_environment().summary;
  } catch (...) {
    return false;  // the first communicator says what is wrong
  }
}

}  // namespace

DropInCounts& DropInCounts::of_this_process() {
  // Never destroyed: the end of the process still reads it.
  static DropInCounts* all = [] {
    auto* made = new DropInCounts;
    if (summary_wanted()) std::atexit(print_counts);
    return made;
  }();
  return *all;
}

void DropInCounts::add(Collective collective, std::size_t bytes) {
  Count& count = counts_[static_cast<std::size_t>(collective)];
  count.calls.fetch_add(1, std::memory_order_relaxed);
  count.bytes.fetch_add(bytes, std::memory_order_relaxed);
}

void DropInCounts::add_fallback() { fallbacks_.fetch_add(1, std::memory_order_relaxed); }

std::string DropInCounts::text() const {
  std::string text;
  for (std::size_t i = 0; i < counts_.size(); ++i)
    if (const auto calls = counts_[i].calls.load(); calls != 0)
      text += fmt::format("collectives: {}: {:<14} {:>10} calls {:>14} bytes\n", ::getpid(), name_of(static_cast<Collective>(i)), calls, counts_[i].bytes.load());
  if (const auto fallbacks = fallbacks_.load(); fallbacks != 0) text += fmt::format("collectives: {}: {} communicators were left to NCCL\n", ::getpid(), fallbacks);
  return text;
}

}  // namespace collectives
